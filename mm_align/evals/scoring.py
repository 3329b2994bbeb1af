"""`score`: the numbers of a published benchmark for anybody's response file, as a library call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import build_benchmark
from .official import Official, Scored


def score(
    benchmark: str,
    responses: str | Path | Sequence[Mapping[str, Any]] | Mapping[str, Any],
    data: str | Path | None = None,
    *,
    flavor: str | None = None,
    **options: Any,
) -> Scored:
    """What the evaluator `flavor` (default: the official one) of `benchmark` says of `responses`: a file, or rows, or what a file that
    is no list of rows holds.

    data: the benchmark's folder or file, or none where it is packaged. options: the benchmark's own (judge_replies, analyses, ...).
    Raises ValueError for input that has no score, naming the row; OSError for files that cannot be read.

    >>> score("pope", "answers.jsonl", "pope/coco/coco_pope_random.json").results["f1"]  # doctest: +SKIP
    """
    built = official(benchmark, data, flavor=flavor, **options)
    return built.report(built.read(responses))


def official(benchmark: str, data: str | Path | None = None, *, flavor: str | None = None, **options: Any) -> Official:
    """The published benchmark of that name. ValueError for another, OSError for data that cannot be read."""
    given = {"data": None if data is None else str(data), "flavor": flavor, **options}
    built = build_benchmark({"type": benchmark, **{key: value for key, value in given.items() if value is not None}})
    if not isinstance(built, Official):
        raise ValueError(f"'{benchmark}' is no published benchmark; `score` knows {', '.join(published_names())}")
    return built


def published_names() -> list[str]:
    """Benchmarks that `score` knows."""
    from . import BENCHMARKS  # the table imports this room's files

    return sorted(name for name, kind in BENCHMARKS.items() if issubclass(kind, Official))
