"""Which ids came before: hashes of a shard's ids, kept in its journal, and a set of all that were seen, eight bytes a row."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import numpy as np

from ..disk.journal import read_lines
from ..io import Shard
from ..records import Rejected
from .directory import RunDir
from .plan import Item

NO_ID = b"\0" * 8
Repeated = Callable[[np.ndarray], np.ndarray]  # of uint64 id hashes [N] in row order: bool [N], which came before


def id_hash(item: Item) -> bytes:
    """The 8 bytes by which the journal knows a row's id; zeros for a row without one."""
    if isinstance(item, Rejected):
        return NO_ID
    digest = blake2b(item.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return digest if digest != NO_ID else b"\1" * 8


def judged_ids(shard: Shard, run_dir: RunDir) -> np.ndarray:
    """The id hashes of a judged shard's rows, uint64 [N], 0 for a row without an id."""
    return np.frombuffer(b"".join(line.ids for line in read_lines(run_dir.journal(shard.name))), dtype="<u8")


class SeenIds:
    """64-bit hashes of all ids so far: 8 bytes a row, in sorted runs that are merged when they reach equal length.

    Two ids of 10^8 share a hash with probability 3e-4; such a pair would be reported as a duplicate.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def repeated(self, ids: np.ndarray) -> np.ndarray:
        """For uint64 hashes [N] in row order (0 = no id): bool [N], whether the id came before, here or in an added shard."""
        order = np.argsort(ids, kind="stable")
        mask = np.zeros(len(ids), dtype=bool)
        mask[order[1:]] = ids[order[1:]] == ids[order[:-1]]
        for run in self._runs:
            at = np.searchsorted(run, ids)
            mask |= (at < len(run)) & (run[np.minimum(at, len(run) - 1)] == ids)
        seen: np.ndarray = mask & (ids != 0)
        return seen

    def add(self, ids: np.ndarray) -> None:
        run = _distinct(ids[ids != 0])
        while self._runs and len(self._runs[-1]) <= len(run):
            run = _distinct(np.concatenate([run, self._runs.pop()]))
        if len(run):
            self._runs.append(run)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Sorted, each once. (`np.unique` imports masked arrays for it, which takes longer than sorting 100,000 ids.)"""
    ordered = np.sort(values)
    distinct: np.ndarray = ordered[np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]]
    return distinct
