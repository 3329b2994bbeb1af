"""Checkpoints that are whole: marked when every byte is on disk, found again after any kill, old ones removed, the best one kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.disk.durable import read_json, remove, sync, to_json, write_atomic

MARK, BEST = "whole.json", "best.json"
NAME = re.compile(r"checkpoint-(\d+)")


class Best(NamedTuple):
    """The checkpoint with the best value of what the run selects by; `holds`: within the limits that the run sets."""

    step: int
    value: float
    holds: bool = True


def whole_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints under `folder`, oldest first."""
    return [path for path in _all(folder) if (path / MARK).is_file()]


def clear_partial(folder: Path) -> None:
    """Remove what a kill left half written."""
    for path in _all(folder):
        if not (path / MARK).is_file():
            remove(path)


def mark_whole(checkpoint: Path) -> None:
    """Sync every file of the checkpoint, then write the mark; last of all, so that a checkpoint without it is none."""
    for file in (path for path in checkpoint.rglob("*") if path.is_file()):
        sync(file)
    write_atomic(checkpoint / MARK, to_json({"step": step_of(checkpoint)}))
    sync(checkpoint.parent)


def keep_last(folder: Path, count: int) -> None:
    """Remove all complete checkpoints but the `count` newest and the best one. A half-written one stays for `clear_partial`."""
    best = best_of(folder)
    for path in whole_checkpoints(folder)[:-count]:
        if best is None or step_of(path) != best.step:
            (path / MARK).unlink()
            remove(path)


def note(folder: Path, candidate: Best, *, lower: bool, later: bool = False) -> None:
    """Remember a checkpoint as the best one if it is better than the best so far; of equal ones the first (the last if `later`).

    One within the limits is better than any that is not.
    """
    best = best_of(folder)
    if best is None or best.step >= candidate.step or _beats(candidate, best, lower, later):
        write_atomic(folder / BEST, to_json(candidate._asdict()))


def _beats(one: Best, other: Best, lower: bool, later: bool) -> bool:
    if one.holds != other.holds:
        return one.holds
    if one.value == other.value:
        return later
    return one.value < other.value if lower else one.value > other.value


def best_of(folder: Path) -> Best | None:
    """The best checkpoint so far; None where none was noted."""
    told: dict[str, Any] | None = read_json(folder / BEST)
    return None if told is None else Best(int(told["step"]), float(told["value"]), bool(told.get("holds", True)))


def step_of(checkpoint: Path) -> int:
    found = NAME.fullmatch(checkpoint.name)
    assert found is not None  # only such folders are listed
    return int(found.group(1))


def _all(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()] if folder.is_dir() else []
    return sorted(found, key=step_of)
