"""The scan: before any row is judged, every filter tells of every row, shard by shard, and of each shard what comparing rows needs is kept.

A shard's scan is a function of that shard alone, so any worker may make it at any time; it is journaled block by block, so a killed one
goes on where it was. `settling` then compares the rows of all shards, and `scanned` hands each row its signals.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..disk.durable import write_atomic
from ..disk.journal import Entry, Journal, read_lines
from ..io import Shard
from ..records import Sample
from ..run.blocks import Prepared, journaled
from ..run.directory import RunDir
from ..run.plan import Look, Plan, Watch
from ..run.steady import steady
from .base import Comparing, Filter, Signals, grey_of, loose_of, side_of
from .rules import Rule

LEAVES, SHARE = "leaves", "share:"  # what a shard's marks hold beside the filters' arrays


@dataclass(frozen=True)
class Unseen:
    """Rules that need no picture: a row that one of them drops is not looked at further, and what its pictures would tell stays unknown.

    `filters` tell what the rules ask for, and nothing else, since the row's signals are told with those of its block.
    """

    filters: Sequence[Filter]
    rules: Sequence[Rule]

    def __call__(self, sample: Sample) -> bool:
        signals = {name: value for one in self.filters for name, value in one([sample])[0].items()}
        return any(rule(signals) is True for rule in self.rules)


@dataclass(frozen=True)
class Scan:
    """What is told of every row, and the rules that are applied to it. `unseen`: whose pictures need not be looked at for it."""

    filters: Sequence[Filter]
    rules: Sequence[Rule] = ()
    block_rows: int = 256  # looked at and committed together
    unseen: Unseen | None = None

    @property
    def comparing(self) -> dict[str, Comparing]:
        """The filters that compare rows, by room."""
        return {one.names[0].partition(".")[0]: one for one in self.filters if isinstance(one, Comparing)}

    @property
    def own_rules(self) -> list[Rule]:
        """The rules over what a row alone tells: what they drop takes no part in comparisons."""
        told = {name for one in self.filters for name in one.names}
        return [rule for rule in self.rules if told.issuperset(rule.names)]

    @property
    def shared(self) -> list[str]:
        """The signals of which rules ask for a share of all rows."""
        return sorted({share.name for rule in self.rules for share in rule.shares})

    def tell(self, samples: Sequence[Sample]) -> list[Signals]:
        """What the filters tell of these samples alone."""
        columns = [one(samples) for one in self.filters]
        return [{name: value for part in parts for name, value in part.items()} for parts in zip(*columns, strict=True)]


def scan_shard(shard: Shard, plan: Plan, run_dir: RunDir, watch: Watch, *, limit: int | None = None) -> int:
    """Tell of every row of a shard, unless that is done; the number of its rows."""
    scan, marks = plan.scan, run_dir.scan_marks(shard.name)
    if scan is None:
        raise ValueError("this plan has no scan")
    if not marks.exists():
        path = run_dir.scan_journal(shard.name)
        with steady(shard, run_dir):
            _journal(shard, plan, scan, path, watch, limit)
        write_atomic(marks, _packed(scan, path))
    with np.load(marks, allow_pickle=False) as arrays:
        return len(arrays[LEAVES])


def _journal(shard: Shard, plan: Plan, scan: Scan, path: Path, watch: Watch, limit: int | None) -> None:
    with Journal(path) as journal:
        for entries in journaled(shard, _scan_plan(plan, scan), journal, lambda block: _entries(block, scan), limit):
            watch.scanned(shard, len(entries))
            watch.check()


def _scan_plan(plan: Plan, scan: Scan) -> Plan:
    """The plan by which rows are made ready: pictures decoded as large as the filters need them, or only their headers read, or neither."""
    needs = {need for one in scan.filters for need in one.needs}
    look: Look = "pixels" if "pixels" in needs else "size" if "size" in needs else "nothing"
    plan = dataclasses.replace(plan, max_side=side_of(scan.filters), grey=grey_of(scan.filters), loose=loose_of(scan.filters))
    unseen = scan.unseen if look != "nothing" and scan.unseen is not None else lambda _: False
    return dataclasses.replace(
        plan, look=lambda row: "nothing" if unseen(row) else look, loads="bytes" in needs, block_rows=scan.block_rows
    )


def _entries(block: Sequence[Prepared], scan: Scan) -> list[Entry]:
    """A row's signals that are known, or why it is refused."""
    told = iter(scan.tell([row.sample for row in block if row.sample is not None]))
    return [row.refused or {name: value for name, value in next(told).items() if value is not None} for row in block]


def _packed(scan: Scan, journal: Path) -> bytes:
    """The marks of a shard: what its rows are compared by, which of them leave by rules of their own, values that shares are taken of."""
    parts = [_pack(scan, line.entries()) for line in read_lines(journal) if line.n] or [_pack(scan, [])]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays' names for options
    return buffer.getvalue()


def _pack(scan: Scan, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    names = [name for one in scan.filters for name in one.names]
    rows = [dict.fromkeys(names) | entry for entry in entries]
    plain = [rule for rule in scan.own_rules if not rule.shares]
    arrays = {room: one.pack(rows) for room, one in scan.comparing.items()}
    arrays |= {SHARE + name: np.array([_number(row.get(name)) for row in rows], np.float64) for name in scan.shared}
    return arrays | {LEAVES: np.array(["rejected" in row or any(rule(row) is True for rule in plain) for row in rows], bool)}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
