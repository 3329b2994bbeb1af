"""What the scan and the comparison told, looked up row by row: a shard at a time, a block of it in memory."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from threading import Lock

import numpy as np

from ..disk.journal import EntriesByRow, Entry
from ..records import Sample
from ..run.directory import CHANGED, RunDir, RunRefused
from ..run.plan import source_of
from .base import Value
from .rule_terms import Cuts
from .scan import Scan
from .settling import Settled, read_settled


class Scanned:
    """Signals of samples by where they were read. For rows in order each block is read once; any thread may ask."""

    def __init__(self, scan: Scan, run_dir: RunDir) -> None:
        self.scan, self.run_dir = scan, run_dir
        self._hidden = {name for one in scan.filters for name in getattr(one, "hidden", ())}
        self._references = {name for one in scan.comparing.values() for name in one.references}
        self._own = dict.fromkeys(name for one in scan.filters for name in one.names if name not in self._hidden)
        self._shard: _Shard | None = None
        self._lock = Lock()

    @cached_property
    def settled(self) -> Settled:
        return read_settled(self.run_dir)

    @property
    def cuts(self) -> Cuts:
        return self.settled.cuts

    def of(self, sample: Sample) -> Entry:
        """The signals of a sample's row, or the entry by which the scan refused it ("rejected", "detail")."""
        source = source_of(sample)
        with self._lock:
            if self._shard is None or self._shard.name != source.shard:
                self._shard = _Shard(source.shard, self.run_dir)
            entry, across = self._shard.row(source.row)
        if "rejected" in entry:
            return entry
        own = {**self._own, **{name: value for name, value in entry.items() if name not in self._hidden}}
        return own | {name: self._value(name, value) for name, value in across.items()}

    def _value(self, name: str, value: Value) -> Value:
        if name not in self._references:
            return value
        assert isinstance(value, int)
        if value < 0:
            return None
        at = bisect_right(self.settled.starts, value) - 1
        return f"{self.settled.shards[at]}:{value - self.settled.starts[at]}"


class _Shard:
    """One shard's scan: its journal by block, and what the comparison told of its rows."""

    def __init__(self, name: str, run_dir: RunDir) -> None:
        self.name, self.entries = name, EntriesByRow(run_dir.scan_journal(name))
        with np.load(run_dir.scan_told(name), allow_pickle=False) as arrays:
            self.told = {key: arrays[key] for key in arrays.files}

    def row(self, row: int) -> tuple[Entry, dict[str, Value]]:
        if row >= len(self.entries):
            raise RunRefused(f"row {row} of shard '{self.name}' was not scanned: {CHANGED}")
        return self.entries[row], {key: column[row].item() for key, column in self.told.items()}
