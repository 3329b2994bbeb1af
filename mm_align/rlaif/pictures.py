"""The pictures of a prompt: what they are known by, and decoding them before a model is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from data_tools.io import BadImage, decode
from data_tools.records import Image, Sample
from data_tools.run.directory import fingerprint

from .stage import Done, Gone

Item = TypeVar("Item")


def prints(sample: Sample) -> list[str]:
    """What each picture is known by: the size and the edges of its file, so that another picture under the same name is another."""
    return [_print(image) for image in sample.images]


def _print(image: Image) -> str:
    if image.data is not None:
        return hashlib.sha256(image.data).hexdigest()[:16]
    path = Path(image.path or "")
    return _print_of(str(path), path.stat().st_mtime_ns) if path.is_file() else image.path or ""


@lru_cache(maxsize=4096)
def _print_of(path: str, changed: int) -> str:
    """Kept, as benchmarks ask many questions about each picture."""
    return fingerprint(path)


def decoded(sample: Sample) -> Sample:
    """The sample with its pictures decoded. Raises BadImage."""
    return replace(sample, images=tuple(decode(image) for image in sample.images))


def with_pictures(
    items: Sequence[Item],
    sample_of: Callable[[Item], Sample],
    subjects_of: Callable[[Item], Sequence[str]],
    work: Callable[[Sequence[Item], Sequence[Sample]], Sequence[Done]],
) -> list[Done]:
    """`work(items, samples)` for the items whose pictures can be decoded; the subjects of the others leave with the picture's reason."""
    results: dict[int, Done] = {}
    ready: list[tuple[int, Sample]] = []
    for place, item in enumerate(items):
        try:
            ready.append((place, decoded(sample_of(item))))
        except BadImage as error:
            results[place] = Done(gone=[Gone(subject, error.reason, error.detail) for subject in subjects_of(item)])
    if ready:
        done: Any = work([items[place] for place, _ in ready], [sample for _, sample in ready])
        results |= dict(zip((place for place, _ in ready), done, strict=True))
    return [results[place] for place in range(len(items))]
