"""Which rows agree in a part of their hash: sorted keys, and the pairs that share one, some millions at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MAX_PAIRS = 1 << 22  # candidates unpacked at once: 64 MB


class Band(NamedTuple):
    """One band of some rows: its keys in order, and where each stands among the rows."""

    keys: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray) -> Band:
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], order)

    def candidates(self, keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (query, place among the rows) with equal keys, some millions at a time."""
        start, end = (np.searchsorted(self.keys, keys, side) for side in ("left", "right"))
        counts = end - start
        for piece in _pieces(counts):
            n = counts[piece]
            query = np.repeat(np.arange(piece.start, piece.stop), n)
            offset = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
            yield query, self.order[np.repeat(start[piece], n) + offset]


def _pieces(counts: np.ndarray) -> Iterator[slice]:
    """Slices of `counts` whose sums stay under MAX_PAIRS where more than one is in them."""
    parts = np.cumsum(counts) // MAX_PAIRS
    edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(counts)]
    yield from (slice(a, b) for a, b in itertools.pairwise(edges) if counts[a:b].any())
