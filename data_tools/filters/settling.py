"""After the scan of all shards: rows are compared with one another, shares of all rows get their ends, each shard's part is written.

What a row is told is a function of all shards' scans alone, in the order of the shards: neither workers nor kills change it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..disk.durable import read_json, to_json, write_atomic
from ..disk.journal import read_entries
from ..io import Shard
from ..run.directory import RunDir
from .rule_terms import Cuts, Share, cuts
from .rules import Rule
from .scan import LEAVES, SHARE, Scan


class Settled(NamedTuple):
    """What all rows together told: where shares end, and the shards in order with the number of each one's first row among all."""

    cuts: Cuts
    shards: list[str]
    starts: list[int]


def settle(shards: Sequence[Shard], scan: Scan, run_dir: RunDir) -> None:
    """Compare the rows of all scanned shards, unless that is done. Raises FileNotFoundError where a shard was not scanned."""
    if run_dir.settled.exists():
        return
    names = [shard.name for shard in shards]
    marks = _Marks(names, run_dir)
    ends = cuts(
        {share for rule in scan.rules for share in rule.shares}, {name: marks.column(SHARE + name).tolist() for name in scan.shared}
    )
    leaves = marks.column(LEAVES) | _left_by_shares(scan, names, run_dir, ends)
    told = _compared(scan, marks, np.flatnonzero(~leaves), len(leaves))
    for name, start, end in zip(names, marks.starts, marks.starts[1:], strict=False):
        write_atomic(run_dir.scan_told(name), _bytes({key: column[start:end] for key, column in told.items()}))
    record = {
        "cuts": [[share.name, share.side, share.percent, end] for share, end in ends.items()],
        "shards": names,
        "starts": marks.starts[:-1],
    }
    write_atomic(run_dir.settled, to_json(record))


def read_settled(run_dir: RunDir) -> Settled:
    """What `settle` wrote. Raises FileNotFoundError before it did."""
    record = read_json(run_dir.settled)
    if record is None:
        raise FileNotFoundError(f"'{run_dir.settled}' is not there: the rows were not compared yet")
    return Settled({Share(name, side, percent): end for name, side, percent, end in record["cuts"]}, record["shards"], record["starts"])


class _Marks:
    """The marks of all shards, one array at a time. `starts`: number of each shard's first row among all, and the number of all rows."""

    def __init__(self, names: Sequence[str], run_dir: RunDir) -> None:
        self.paths = [run_dir.scan_marks(name) for name in names]
        counts = [len(part) for part in self._parts(LEAVES)]
        self.starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]

    def column(self, key: str) -> np.ndarray:
        return np.concatenate(self._parts(key))

    def _parts(self, key: str) -> list[np.ndarray]:
        parts = []
        for path in self.paths:
            with np.load(path, allow_pickle=False) as arrays:
                parts.append(arrays[key])
        return parts


def _compared(scan: Scan, marks: _Marks, stay: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """What comparing the rows `stay` tells, by signal, for all rows; those that took no part repeat nothing."""
    told = {}
    for room, one in scan.comparing.items():
        for name, column in one.compare(marks.column(room)[stay]).items():
            everywhere = np.full(rows, -1 if name in one.references else 0, column.dtype)
            everywhere[stay] = np.where(column < 0, -1, stay[column]) if name in one.references else column
            told[name] = everywhere
    return told


def _left_by_shares(scan: Scan, names: Sequence[str], run_dir: RunDir, ends: Mapping[Share, float]) -> np.ndarray | bool:
    """Which rows leave by rules of their own that ask for a share; the journals are read again only where there are such rules."""
    rules = [rule for rule in scan.own_rules if rule.shares]
    if not rules:
        return False
    blank = dict.fromkeys(name for one in scan.filters for name in one.names)
    entries = (blank | entry for name in names for entry in read_entries(run_dir.scan_journal(name)))
    return np.fromiter((_leaves(rules, entry, ends) for entry in entries), bool)


def _leaves(rules: Sequence[Rule], entry: Mapping[str, float | int | str | bool | None], ends: Mapping[Share, float]) -> bool:
    return any(rule(entry, ends) is True for rule in rules)


def _bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays' names for options
    return buffer.getvalue()
