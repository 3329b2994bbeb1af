"""Perceptual hashes: 64 bits a picture that survive resizing and re-encoding, and an exact index of what differs in a few of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import PIL.Image

from ..records import Image, Sample
from .bands import Band
from .base import Need, Signals, Value, narrowed

RADIUS = 4  # bits in which a picture may differ from the one that it repeats
SQUARE = 32  # pixels of the side of what pHash transforms
KEPT = 8  # lowest frequencies a side, the constant one included
BITS = 64
BLOCK = 1024  # rows compared with one another by brute force, before they enter the index


class PerceptualSignals:
    """Of a sample's first picture: `perceptual.phash` and `perceptual.dhash`, 16 hexadecimal digits each, as `imagehash` writes them.

    Among all rows: `perceptual.repeats`, the first row whose pHash differs in at most `RADIUS` bits and which repeats none itself.
    The hashes are those of a small decode: of four pictures three have those of the whole picture, of the others a bit or two differ.
    """

    kinds: dict[str, type] = {"perceptual.phash": str, "perceptual.dhash": str, "perceptual.repeats": str}
    needs: frozenset[Need] = frozenset({"pixels"})
    side = 64
    grey = loose = True
    references = frozenset({"perceptual.repeats"})

    def __init__(self, names: Sequence[str] = (), radius: int = RADIUS) -> None:
        asked = narrowed(self.kinds, names)
        self.radius = radius
        self.across = tuple(name for name in asked if name in self.references)
        self.hidden = frozenset({"perceptual.phash"} if self.across else ()) - {*asked}
        self.names = tuple(name for name in HASHES if name in asked or name in self.hidden)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        there = [i for i, sample in enumerate(samples) if sample.images and sample.images[0].pixels is not None]
        views = [view_of(samples[i].images[0]) for i in there]
        told: list[dict[str, Value]] = [dict.fromkeys(self.names) for _ in samples]
        for name in self.names:
            for i, value in zip(there, HASHES[name](views).tolist(), strict=True):
                told[i][name] = f"{value:016x}"
        return [*told]

    def pack(self, rows: Sequence[Signals]) -> np.ndarray:
        """uint64 [N, 2]: the pHash, and 1 where there is one."""
        hashes = [row["perceptual.phash"] for row in rows]
        return np.array([(0, 0) if h is None else (int(str(h), 16), 1) for h in hashes], np.uint64).reshape(-1, 2)

    def compare(self, packed: np.ndarray) -> Mapping[str, np.ndarray]:
        return {name: Repeats(self.radius).of(packed[:, 0], packed[:, 1] == 1) for name in self.across}


class View(NamedTuple):
    """A grey picture, and (left, top, right, bottom) of the part of its pixels that it covers."""

    grey: PIL.Image.Image
    box: tuple[float, float, float, float]


def view_of(image: Image) -> View:
    """Of a decoded picture."""
    assert image.pixels is not None
    pixels = image.pixels
    return View(pixels if pixels.mode == "L" else pixels.convert("L"), (0, 0, *(image.covers or pixels.size)))


def phashes(views: Sequence[View]) -> np.ndarray:
    """uint64 [N]: bits of the 8 x 8 lowest frequencies of the 32 x 32 grey picture, each "above the median of the 64", row by row from the
    highest bit.

    The definition of `imagehash.phash` (Zauner 2010 by its author's account), whose hex text `f"{value:016x}"` then is.
    """
    grey = _squares(views, SQUARE, SQUARE).astype(np.float64)
    low = _cosines() @ grey @ _cosines().T  # [N, 8, 8]
    low = np.round(low, 6).reshape(-1, BITS)  # else the bits of a constant picture are those of rounding errors
    middle = np.sort(low, axis=1)[:, BITS // 2 - 1 : BITS // 2 + 1].mean(axis=1, keepdims=True)
    return _packed(low > middle)


def dhashes(views: Sequence[View]) -> np.ndarray:
    """uint64 [N]: bits of the 9 x 8 grey picture, each "the pixel is lighter than its left neighbour", as `imagehash.dhash` has them."""
    grey = _squares(views, KEPT + 1, KEPT)
    return _packed(grey[:, :, 1:] > grey[:, :, :-1])


HASHES: dict[str, Callable[[Sequence[View]], np.ndarray]] = {"perceptual.phash": phashes, "perceptual.dhash": dhashes}


def _squares(views: Sequence[View], width: int, height: int) -> np.ndarray:
    """uint8 [N, height, width]"""
    small = (view.grey.resize((width, height), PIL.Image.Resampling.LANCZOS, view.box).tobytes() for view in views)
    return np.frombuffer(b"".join(small), np.uint8).reshape(len(views), height, width)


@cache
def _cosines() -> np.ndarray:
    """Rows of the type-II cosine transform: [8, 32]."""
    k, n = np.arange(KEPT)[:, None], np.arange(SQUARE)[None, :]
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * SQUARE))


def _packed(bits: np.ndarray) -> np.ndarray:
    """uint64 [N] of bool [N, 8, 8]"""
    return np.packbits(bits.reshape(-1, BITS), axis=1).view(">u8")[:, 0].astype(np.uint64)


class HammingIndex:
    """Hashes of 64 bits by bands: two that differ in at most `radius` bits agree in at least one of `radius + 1` bands.

    So only those that share a band are compared, and nothing is missed. Of N random hashes a query compares about
    N * (radius + 1) / 2**(64 / (radius + 1)): 6e-4 N at radius 4. Sorted runs are merged when they reach equal length, as in `SeenIds`.
    """

    def __init__(self, radius: int) -> None:
        if not 0 <= radius < BITS:
            raise ValueError(f"radius is {radius}; two hashes of {BITS} bits differ in 0 to {BITS - 1} of them or are opposites")
        self.radius = radius
        edges = np.linspace(0, BITS, radius + 2).astype(int)
        self._bands = [(np.uint64(lo), np.uint64((1 << int(hi - lo)) - 1)) for lo, hi in itertools.pairwise(edges)]
        self._runs: list[_Run] = []

    def add(self, hashes: np.ndarray, rows: np.ndarray) -> None:
        """Take in uint64 hashes [N] under the numbers int64 [N]."""
        while self._runs and len(self._runs[-1].rows) <= len(rows):
            last = self._runs.pop()
            hashes, rows = np.concatenate([last.hashes, hashes]), np.concatenate([last.rows, rows])
        if len(rows):
            self._runs.append(_Run(hashes, rows, [Band.of(self._keys(hashes, band)) for band in self._bands]))

    def first(self, hashes: np.ndarray) -> np.ndarray:
        """For uint64 hashes [N] the least number of those within the radius, or -1: int64 [N]."""
        none = np.iinfo(np.int64).max
        found = np.full(len(hashes), none, dtype=np.int64)
        for run in self._runs:
            for band, table in zip(self._bands, run.bands, strict=True):
                for query, at in table.candidates(self._keys(hashes, band)):
                    near = np.bitwise_count(hashes[query] ^ run.hashes[at]) <= self.radius
                    np.minimum.at(found, query[near], run.rows[at[near]])
        return np.where(found == none, -1, found)

    @staticmethod
    def _keys(hashes: np.ndarray, band: tuple[np.uint64, np.uint64]) -> np.ndarray:
        return (hashes >> band[0]) & band[1]


class _Run(NamedTuple):
    hashes: np.ndarray
    rows: np.ndarray
    bands: list[Band]


class Repeats:
    """Which rows repeat an earlier one: rows come in order, the first stands for those like it, and what repeats stands for none.

    So a chain A ~ B ~ C whose ends differ keeps A and C: every row that repeats lies within the radius of one that does not.
    """

    def __init__(self, radius: int) -> None:
        self._index = HammingIndex(radius)
        self._rows = 0

    def of(self, hashes: np.ndarray, known: np.ndarray) -> np.ndarray:
        """For the next rows' uint64 hashes [N] (`known` bool [N]: it has one) the number of the row that each repeats, counted over
        all calls, or -1: int64 [N]."""
        told = np.full(len(hashes), -1, dtype=np.int64)
        for start in range(0, len(hashes), BLOCK):
            rows = np.flatnonzero(known[start : start + BLOCK]) + start
            told[rows] = self._block(hashes[rows], rows + self._rows)
        self._rows += len(hashes)
        return told

    def _block(self, hashes: np.ndarray, rows: np.ndarray) -> np.ndarray:
        told = self._index.first(hashes)
        near = np.tril(np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= self._index.radius, -1)
        for i in np.flatnonzero((told < 0) & near.any(axis=1)):  # in order: whether a row stands for others is known by then
            earlier = np.flatnonzero(near[i] & (told < 0))
            told[i] = rows[earlier[0]] if len(earlier) else -1
        first = told < 0
        self._index.add(hashes[first], rows[first])
        return told
