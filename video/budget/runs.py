"""A table of training runs: frames, tokens a frame and what was measured, with the rows that cannot be used and why."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .forms.base import settings

Better = Literal["lower", "higher"]
NAMES = {
    "frames": ("frames", "T", "t", "num_frames", "n_frames"),
    "tokens": ("tokens", "M", "m", "tokens_a_frame", "tokens_per_frame"),
    "metric": ("loss", "eval_loss", "metric", "value", "accuracy"),
    "weight": ("weight",),
    "seconds": ("seconds", "latency"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """n runs.

    frames, tokens: float64 [n], T and M, at least 1. values: [n], the metric as it was measured. weights: [n], how much a run counts
    (one over its variance, up to a factor; all 1 when left out). seconds: [n], nan where not measured. better: whether lower or
    higher is better. left_out: rows that are not here, each with its reason.

    Raises ValueError when the parts do not fit together.
    """

    frames: np.ndarray
    tokens: np.ndarray
    values: np.ndarray
    weights: Any = None
    seconds: Any = None
    better: Better = "lower"
    metric: str = "loss"
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(np.atleast_1d(self.frames))
        for name, absent in (("frames", None), ("tokens", None), ("values", None), ("weights", 1.0), ("seconds", math.nan)):
            given = getattr(self, name)
            column = np.full(count, absent) if given is None else np.asarray(given, dtype=np.float64)
            if column.shape != (count,):
                raise ValueError(f"{count} runs need {name} [{count}], got {list(column.shape)}")
            object.__setattr__(self, name, column)
        if count and (self.frames.min() < 1 or self.tokens.min() < 1):
            raise ValueError(f"a run has at least one frame of one token, got {self.frames.min():g} x {self.tokens.min():g}")
        if not np.isfinite(self.values).all() or not (self.weights > 0).all():
            raise ValueError("a run's metric is a finite number and its weight above 0")
        if self.better not in ("lower", "higher"):
            raise ValueError(f"better is 'lower' or 'higher', got {self.better!r}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def sign(self) -> int:
        """What the metric is multiplied with so that less is better."""
        return 1 if self.better == "lower" else -1

    @property
    def settings(self) -> np.ndarray:
        """[n], a number for each (T, M): repeats of one setting share it."""
        return settings(np.log(self.frames), np.log(self.tokens))

    def repeat_noise(self) -> tuple[float, int]:
        """Standard deviation between runs of the same setting (a run of weight 1), and its degrees of freedom; (nan, 0) without repeats."""
        total, freedom = 0.0, 0
        for setting in np.unique(self.settings):
            here = self.settings == setting
            if here.sum() > 1:
                middle = np.average(self.values[here], weights=self.weights[here])
                total += float((self.weights[here] * (self.values[here] - middle) ** 2).sum())
                freedom += int(here.sum()) - 1
        return (math.sqrt(total / freedom), freedom) if freedom else (math.nan, 0)


def read_runs(path: str | Path, *, better: Better = "lower", **columns: str | None) -> Runs:
    """The runs of a .csv, .tsv, .json (a list) or .jsonl file with a header or keys.

    columns: frames=, tokens=, metric=, weight=, seconds= name the columns; those not named are looked for under the usual names (NAMES).
    A row whose numbers cannot be used (a run that diverged) is left out with its reason. Raises ValueError, OSError.
    """
    return runs_of(_rows(Path(path)), better=better, **columns)


def runs_of(rows: Iterable[Mapping[str, Any]], *, better: Better = "lower", **columns: str | None) -> Runs:
    """The same from rows that are there."""
    found = list(rows)
    if not found:
        raise ValueError("the table of runs is empty")
    names = _columns(list(dict.fromkeys(key for row in found for key in row)), columns)
    kept: list[list[float]] = []
    gone: list[str] = []
    for i, row in enumerate(found, start=1):
        try:
            kept.append(_numbers(row, names))
        except ValueError as error:
            gone.append(f"run {i}: {error}")
    if not kept:
        raise ValueError(f"no run of the table can be used; {gone[0]}")
    frames, tokens, values, weights, seconds = np.array(kept).T
    return Runs(frames, tokens, values, weights, seconds, better, str(names["metric"]), tuple(gone))


def _columns(known: Sequence[str], asked: Mapping[str, str | None]) -> dict[str, str | None]:
    unknown = set(asked) - set(NAMES)
    if unknown:
        raise TypeError(f"columns are {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    found: dict[str, str | None] = {}
    for what, usual in NAMES.items():
        name = asked.get(what)
        if name is not None and name not in known:
            raise ValueError(f"no column {name!r} for the {what}; the table has {', '.join(known)}")
        found[what] = name or next((one for one in usual if one in known), None)
        if found[what] is None and what in ("frames", "tokens", "metric"):
            raise ValueError(f"no column for the {what} (usual names: {', '.join(usual)}); the table has {', '.join(known)}; name yours")
    return found


def _numbers(row: Mapping[str, Any], names: Mapping[str, str | None]) -> list[float]:
    numbers = [_number(row, names, what) for what in ("frames", "tokens", "metric")]
    weight = _number(row, names, "weight") if _given(row, names["weight"]) else 1.0
    seconds = _number(row, names, "seconds") if _given(row, names["seconds"]) else math.nan
    for what, value, least in (("frames", numbers[0], 1), ("tokens", numbers[1], 1)):
        if value < least:
            raise ValueError(f"{what} {value:g}: at least {least} is needed")
    if weight <= 0 or seconds <= 0:
        raise ValueError(f"weight {weight:g}, seconds {seconds:g}: they must be above 0")
    return [*numbers, weight, seconds]


def _given(row: Mapping[str, Any], name: str | None) -> bool:
    return name is not None and row.get(name) not in (None, "")


def _number(row: Mapping[str, Any], names: Mapping[str, str | None], what: str) -> float:
    found = row.get(str(names[what]))
    try:
        value = float(found)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{what} {found!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{what} {found!r} is not finite")
    return value


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader((line for line in file if line.strip()), delimiter="\t" if path.suffix == ".tsv" else ",")
        return
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"{path} is a {path.suffix or 'nameless kind of'} file; a table of runs is .csv, .tsv, .json or .jsonl")
    text = path.read_text(encoding="utf-8-sig")
    try:
        found = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path} is no {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"{path} should hold a list of objects, one a run")
    yield from found
