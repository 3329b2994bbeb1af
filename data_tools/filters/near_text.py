"""Which captions say nearly what an earlier one said: MinHash of pieces of five characters, and an index of bands."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..records import Sample
from ..text import encodable, words
from .bands import Band
from .base import Need, Signals, narrowed

HASHES = 64  # minima a caption; the estimate's standard error is 0.05 at a likeness of 0.8
PIECE = 5  # characters
LONGEST = 10_000  # characters of a caption that are looked at
THRESHOLD = 0.8
BLOCK = 1024  # rows that are compared with one another before they enter the index
SKETCH, REPEATS = "near_text.sketch", "near_text.repeats"


class NearTextSignals:
    """Among all rows `near_text.repeats`: the first row, itself repeating none, whose caption is at least `threshold` like this one's.

    Likeness is the Jaccard index of the sets of five-character pieces of both captions' words (lower case, no punctuation), estimated by
    64 MinHash minima of 16 bits [Broder 1997; b-bit minima: Li and Koenig 2010]. Candidates share at least one of 16 bands of 4 minima:
    of two captions 0.8 alike 99.98 % do, of 0.5 alike 64 %, of 0.2 alike 2.5 %. Captions without a word repeat nothing.
    """

    kinds: dict[str, type] = {SKETCH: str, REPEATS: str}
    needs: frozenset[Need] = frozenset({"caption"})
    names = (SKETCH,)
    hidden = frozenset({SKETCH})
    references = frozenset({REPEATS})

    def __init__(self, names: Sequence[str] = (), threshold: float = THRESHOLD) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"a likeness from which captions repeat is above 0 and at most 1, not {threshold}")
        self.across = narrowed((REPEATS,), names)
        self.threshold = threshold

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        texts = [" ".join(words(encodable((sample.caption or "")[:LONGEST]))) for sample in samples]
        sketches = iter(sketch([text for text in texts if text]))
        return [{SKETCH: base64.b64encode(next(sketches).tobytes()).decode("ascii") if text else None} for text in texts]

    def pack(self, rows: Sequence[Signals]) -> np.ndarray:
        """uint16 [n, 64], little-endian; all 0 where there is no caption."""
        nothing = bytes(2 * HASHES)
        told = (row.get(SKETCH) for row in rows)
        joined = b"".join(base64.b64decode(one) if isinstance(one, str) else nothing for one in told)
        return np.frombuffer(joined, "<u2").reshape(-1, HASHES)

    def compare(self, packed: np.ndarray) -> Mapping[str, np.ndarray]:
        return {REPEATS: Repeats(self.threshold).of(packed)} if self.across else {}


def sketch(texts: Sequence[str]) -> np.ndarray:
    """The minima of texts that are not empty: uint16 [N, 64].

    Each minimum is over the pieces' hashes under one of 64 functions a * h + b (mod 2^64); 16 bits of the least value are kept.
    """
    if not texts:
        return np.empty((0, HASHES), "<u2")
    hashes, starts = _pieces(texts)
    minima = [np.minimum.reduceat(hashes * a + b, starts) for a, b in _FUNCTIONS]  # uint64 [N] each, modulo 2^64
    return ((np.stack(minima, axis=1) >> np.uint64(20)) & np.uint64(0xFFFF)).astype("<u2")


def _pieces(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all pieces of all texts, and where each text's begin. A text shorter than a piece is padded to one."""
    padded = [text.ljust(PIECE, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), "<u4").astype(np.uint64)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    ends = np.cumsum(lengths)
    hashes = np.zeros(len(codes) - PIECE + 1, np.uint64)
    for k in range(PIECE):
        hashes = (hashes ^ codes[k : k + len(hashes)]) * _PRIME
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(29)
    whole = np.ones(len(codes), bool)  # pieces that lie within one text
    for k in range(1, PIECE):
        whole[ends - k] = False
    inside = np.flatnonzero(whole[: len(hashes)])
    return hashes[inside], np.cumsum(np.r_[0, lengths[:-1] - PIECE + 1])


_PRIME, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_drawn = np.random.Generator(np.random.PCG64(20_240_711)).integers(0, 1 << 63, (HASHES, 2), np.uint64)
_FUNCTIONS = [(a | np.uint64(1), b) for a, b in _drawn]


class _Run(NamedTuple):
    sketches: np.ndarray  # uint16 [N, 64]
    rows: np.ndarray  # int64 [N]
    bands: list[Band]


class Repeats:
    """Which captions repeat an earlier one. As with pictures the first stands for those like it, and what repeats stands for none.

    About 400 bytes are held for every row that repeats none. Sorted runs are merged when they reach equal length.
    """

    def __init__(self, threshold: float) -> None:
        self._agree = int(np.ceil(threshold * HASHES - 1e-9))
        self._runs: list[_Run] = []

    def of(self, sketches: np.ndarray) -> np.ndarray:
        """For uint16 [N, 64] in row order the number of the row that each repeats, or -1: int64 [N]. All 0 repeats nothing."""
        told = np.full(len(sketches), -1, np.int64)
        for start in range(0, len(sketches), BLOCK):
            block = sketches[start : start + BLOCK]
            rows = np.flatnonzero(block.any(axis=1))
            told[rows + start] = self._block(block[rows], rows + start)
        return told

    def _block(self, sketches: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """One row stands for those of the same sketch, so that a caption that fills the block costs no more than another."""
        first, which = _firsts(sketches)
        told = self._different(sketches[first], rows[first])[which]
        earliest: np.ndarray = np.where((told < 0) & (rows != rows[first][which]), rows[first][which], told)
        return earliest

    def _different(self, sketches: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`of` for rows of which no two have the same sketch, in row order; those that repeat none enter the index."""
        keys = _keys(sketches)
        told = self._in_index(sketches, keys)
        for query, at in self._near(_Run(sketches, rows, [Band.of(key) for key in keys]), sketches, keys, below=True):
            if told[query] < 0 and told[at] < 0:  # in row order: whether `at` stands for others is known by then
                told[query] = rows[at]
        first = told < 0
        self._add(sketches[first], rows[first])
        return told

    def _in_index(self, sketches: np.ndarray, keys: np.ndarray) -> np.ndarray:
        none = np.iinfo(np.int64).max
        found = np.full(len(sketches), none, np.int64)
        for run in self._runs:
            for query, at in self._near(run, sketches, keys):
                found[query] = min(found[query], run.rows[at])
        return np.where(found == none, -1, found)

    def _near(self, run: _Run, sketches: np.ndarray, keys: np.ndarray, *, below: bool = False) -> Iterator[tuple[int, int]]:
        """Pairs (query, place in the run) that agree in enough minima, in order; `below`: only where the place comes before the query."""
        pairs = [np.empty((0, 2), np.int64)]
        for band, key in zip(run.bands, keys, strict=True):
            for query, at in band.candidates(key):
                some = at < query if below else np.ones(len(at), bool)
                query, at = query[some], at[some]
                near = (sketches[query] == run.sketches[at]).sum(axis=1) >= self._agree
                pairs.append(np.stack([query[near], at[near]], axis=1))
        yield from map(tuple, np.unique(np.concatenate(pairs), axis=0).tolist())

    def _add(self, sketches: np.ndarray, rows: np.ndarray) -> None:
        while self._runs and len(self._runs[-1].rows) <= len(rows):
            last = self._runs.pop()
            sketches, rows = np.concatenate([last.sketches, sketches]), np.concatenate([last.rows, rows])
        if len(rows):
            self._runs.append(_Run(sketches, rows, [Band.of(key) for key in _keys(sketches)]))


def _keys(sketches: np.ndarray) -> np.ndarray:
    """The bands' keys: uint64 [16, N]."""
    return np.ascontiguousarray(sketches, "<u2").view("<u8").T


def _firsts(sketches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each different sketch, in row order, and for every row which of these is its own."""
    whole = np.ascontiguousarray(sketches).view(np.dtype((np.void, 2 * HASHES))).ravel()
    _, first, which = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[which.ravel()]
