"""Sequences laid end to end in packs of a fixed capacity, so that batches hold hardly any padding."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

WINDOW = 4096  # rows that are packed together: bounds time, and mixes short and long rows of a shuffled order


def packs_of(rows: np.ndarray, lengths: np.ndarray, capacity: int, window: int = WINDOW) -> list[np.ndarray]:
    """Rows -> packs of rows whose lengths sum to at most `capacity`: best-fit decreasing within windows of the given order.

    Johnson (1973): at most 11/9 of the least number of packs (plus a constant) in each window. Raises ValueError for a row
    longer than the capacity.
    """
    if len(rows) and int(lengths[rows].max()) > capacity:
        raise ValueError(f"a row of {int(lengths[rows].max())} tokens does not fit in packs of {capacity}")
    packs: list[np.ndarray] = []
    for start in range(0, len(rows), window):
        packs += _best_fit(rows[start : start + window], lengths, capacity)
    return packs


def _best_fit(rows: np.ndarray, lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """The fullest pack that still has room takes the row; ties go to the older pack."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens free, pack), sorted
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        length = int(lengths[row])
        at = bisect_left(room, (length, 0))
        free, pack = room.pop(at) if at < len(room) else (capacity, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(row)
        insort(room, (free - length, pack))
    return [np.array(pack, np.int64) for pack in packs]
