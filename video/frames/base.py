"""What frame selection has in common: what a rule may know of a film, and how places are made whole and spread evenly."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Timed(Protocol):
    """A film as rules see it: `VideoInfo`, or anything with these. times, key_times: float64 seconds, rising."""

    @property
    def times(self) -> np.ndarray: ...
    @property
    def key_times(self) -> np.ndarray: ...
    @property
    def duration(self) -> float: ...
    @property
    def fps(self) -> float: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def variable_rate(self) -> bool: ...
    def index_at(self, times: Any) -> np.ndarray: ...


def linspace(last: int, n: int) -> np.ndarray:
    """`numpy.linspace(0, last, n, dtype=int)`: n places from the first to the last, truncated; none twice where n <= last + 1."""
    return np.unique(np.linspace(0, last, min(n, last + 1), dtype=np.int64))


def filled(chosen: np.ndarray, n: int, times: np.ndarray) -> np.ndarray:
    """`chosen` without repeats, and further places until there are n: each the one farthest in time from all that are there."""
    chosen = np.unique(chosen)
    n = min(n, len(times))
    if not len(chosen):
        chosen = np.array([len(times) // 2])
    while len(chosen) < n:
        apart = np.abs(times[:, None] - times[chosen][None, :]).min(axis=1)
        apart[chosen] = -1
        chosen = np.append(chosen, int(apart.argmax()))
    return np.sort(chosen).astype(np.int64)


def spread_order(count: int) -> np.ndarray:
    """The places 0 .. count - 1 in an order of which every beginning lies evenly over them (van der Corput's sequence)."""
    bits = max(count - 1, 1).bit_length()
    numbers = np.arange(2**bits)
    mirrored = sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    places = mirrored * count // 2**bits
    _, first = np.unique(places, return_index=True)
    return places[np.sort(first)].astype(np.int64)


def best_first(scores: np.ndarray) -> np.ndarray:
    """Places from the highest score to the lowest; equal ones in the order of `spread_order`, so that ties cover the film."""
    rank = np.empty(len(scores), np.int64)
    rank[spread_order(len(scores))] = np.arange(len(scores))
    return np.lexsort((rank, -scores))
