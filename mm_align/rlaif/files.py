"""The folder that the stages share: a file each, its rows, and how rows of one file find theirs in the file before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

from data_tools.io.paths import join
from data_tools.records import Claim, Response, Sample, Score

from ..config import UserError

STAGES = ("samples", "candidates", "claims", "questions", "judged", "policy", "reference", "scores", "pairs")
MADE_BY = {"samples": "candidates", "judged": "judge", "scores": "pairs"}  # the verb, where it is called otherwise
Left = TypeVar("Left")
Right = TypeVar("Right")


class Row(Protocol):
    @classmethod
    def from_dict(cls, d: Any) -> Any: ...


def stage_file(folder: Path, stage: str) -> Path:
    return folder / f"{stage}.jsonl"


def read_rows(folder: Path, stage: str, kind: type[Row]) -> Iterator[Any]:
    """The rows of a stage's file. Raises UserError where it is not there, and for a line that is no such row."""
    path = stage_file(folder, stage)
    if not path.is_file():
        raise missing(path, stage)
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield kind.from_dict(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(f"{path}, line {number}: no row of type {kind.__name__}: {type(error).__name__}: {error}") from error


def missing(path: Path, stage: str) -> UserError:
    return UserError(f"no file {path}; it is what `mmalign rlaif {MADE_BY.get(stage, stage)}` writes")


def samples(folder: Path) -> Iterator[Sample]:
    """The prompts, their pictures found from the folder that the file lies in."""
    for sample in read_rows(folder, "samples", Sample):
        yield replace(sample, images=tuple(replace(image, path=join(str(folder), image.path or "")) for image in sample.images))


def responses(folder: Path) -> Iterator[Response]:
    return read_rows(folder, "candidates", Response)


def claims(folder: Path, stage: str) -> Iterator[Claim]:
    """Of "claims", "questions" or "judged"."""
    return read_rows(folder, stage, Claim)


def judged_claims(folder: Path) -> Iterator[Claim]:
    """Of judged.jsonl; none where no judge was asked."""
    return claims(folder, "judged") if stage_file(folder, "judged").is_file() else iter(())


def scores(folder: Path) -> Iterator[Score]:
    return read_rows(folder, "scores", Score)


def answered(folder: Path) -> Iterator[tuple[Sample, list[Response]]]:
    """Every prompt with its answers."""
    return joined(samples(folder), responses(folder), lambda s: s.id, lambda r: r.sample_id, "candidates")


def with_claims(folder: Path, stage: str, answers: Iterable[Response]) -> Iterator[tuple[Response, list[Claim]]]:
    """Every answer with its claims."""
    return joined(answers, claims(folder, stage), lambda r: r.id, lambda c: c.response_id, stage)


def joined(
    left: Iterable[Left], right: Iterable[Right], left_key: Callable[[Left], str], right_key: Callable[[Right], str], file: str
) -> Iterator[tuple[Left, list[Right]]]:
    """Each row of `left` with those of `right` that belong to it; both in one order, those of one key together.

    Raises UserError for a row of `right` (from the stage `file`) that belongs to no row of `left` at its place.
    """
    groups = groupby(right, right_key)
    key, group = next(groups, (None, iter(())))
    for row in left:
        if key is not None and left_key(row) == key:
            yield row, list(group)
            key, group = next(groups, (None, iter(())))
        else:
            yield row, []
    if key is not None:
        raise UserError(f"{file}.jsonl: the row of '{key}' belongs to nothing in the file before it, or stands at another place there")


def prompt_text(sample: Sample) -> str:
    """What is asked about the pictures: the texts of the last turn."""
    return "\n".join(part.text for part in sample.messages[-1].parts if part.kind == "text") if sample.messages else ""
