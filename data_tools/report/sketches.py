"""Bounded, mergeable summaries of a stream: the same rows give the same numbers in whatever order or chunks they come.

All state is integers (sums of integers do not depend on their order, sums of floats do), so `merge` is associative and
commutative to the last bit. Error bounds are stated with each class.
"""

from __future__ import annotations

import base64
import math
import re
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

EXACT_LENGTHS = 4096  # lengths up to here have a bin each
BINS_PER_OCTAVE = 16  # above: logarithmic bins, 4.4 % wide
SKETCHED_WORDS = 4096  # of one text, so that a 1 MB caption cannot own the vocabulary statistics
FLUSH_WORDS = 1 << 14
CACHED_WORDS = 1 << 16
BUCKETS = 1 << 16
HLL_BITS = 14
HLL_RANKS = 32

WORD = re.compile(r"\w+(?:['’]\w+)*")

Words = npt.NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and underscores, lower-cased; an apostrophe inside a word stays in it."""
    return WORD.findall(text.lower())


def hash64(text: str) -> int:
    """The first 8 bytes of blake2b: the same on every machine and in every process, unlike `hash`."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Histogram:
    """Counts by bin and the exact sum of the values. Fractions are given as integer parts (of a thousand, say) by the caller."""

    __slots__ = ("bins", "count", "total")

    def __init__(self) -> None:
        self.bins: dict[int, int] = {}
        self.count = 0
        self.total = 0

    def add(self, bin_index: int, value: int) -> None:
        self.bins[bin_index] = self.bins.get(bin_index, 0) + 1
        self.count += 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        for key, n in other.bins.items():
            self.bins[key] = self.bins.get(key, 0) + n
        self.count += other.count
        self.total += other.total

    def quantile(self, q: float) -> int | None:
        """The lowest bin at or below which at least the share `q` of the values lies (nearest rank); None when empty."""
        wanted = max(1, math.ceil(q * self.count))
        seen = 0
        for key in sorted(self.bins):
            seen += self.bins[key]
            if seen >= wanted:
                return key
        return None

    def to_dict(self) -> dict[str, Any]:
        return {"bins": [[k, self.bins[k]] for k in sorted(self.bins)], "total": self.total}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Histogram:
        out = cls()
        out.bins = {int(k): int(n) for k, n in d["bins"]}
        out.count = sum(out.bins.values())
        out.total = int(d["total"])
        return out


def length_bin(n: int) -> int:
    """The bin of a length: itself up to 4096, then the lower edge of a logarithmic bin.

    Quantiles over these bins are exact up to 4096 and at most 4.4 % low above; a length of 2^40 would still make < 4,600 bins.
    """
    if n <= EXACT_LENGTHS:
        return n
    octaves = math.floor(math.log2(n / EXACT_LENGTHS) * BINS_PER_OCTAVE)
    return math.floor(EXACT_LENGTHS * 2 ** (octaves / BINS_PER_OCTAVE))


class DistinctCount:
    """How many different hashes were seen: HyperLogLog with 2^14 registers and Ertl's estimator; standard error 0.8 %.

    Source: O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6.
    """

    __slots__ = ("registers",)

    def __init__(self) -> None:
        self.registers: npt.NDArray[np.uint8] = np.zeros(1 << HLL_BITS, np.uint8)

    def add(self, hashes: Words) -> None:
        low = (hashes & np.uint64(0xFFFFFFFF)).astype(np.float64)
        rank = (HLL_RANKS + 1 - np.frexp(low)[1]).astype(np.uint8)  # 1 for a leading 1, 33 for no 1 at all
        np.maximum.at(self.registers, (hashes >> np.uint64(64 - HLL_BITS)).astype(np.intp), rank)

    def merge(self, other: DistinctCount) -> None:
        np.maximum(self.registers, other.registers, out=self.registers)

    def estimate(self) -> float:
        m = 1 << HLL_BITS
        of_rank = np.bincount(self.registers, minlength=HLL_RANKS + 2).tolist()
        if of_rank[0] == m:
            return 0.0
        z = m * _tau(1 - of_rank[HLL_RANKS + 1] / m)
        for k in range(HLL_RANKS, 0, -1):
            z = 0.5 * (z + of_rank[k])
        return m * m / (2 * math.log(2) * (z + m * _sigma(of_rank[0] / m)))

    def to_dict(self) -> dict[str, Any]:
        """Sparse while few registers are set, else base64 of the 16,384 register bytes."""
        used = np.flatnonzero(self.registers)
        if len(used) > len(self.registers) // 8:
            return {"dense": base64.b64encode(self.registers.tobytes()).decode("ascii")}
        return {"at": used.tolist(), "rank": self.registers[used].tolist()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> DistinctCount:
        out = cls()
        if "dense" in d:
            out.registers = np.frombuffer(base64.b64decode(d["dense"]), np.uint8).copy()
        else:
            out.registers[np.asarray(d["at"], np.intp)] = d["rank"]
        return out


def _sigma(x: float) -> float:
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before, z, y = z, z + x * y, y + y
    return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x = math.sqrt(x)
        y *= 0.5
        before, z = z, z - (1 - x) ** 2 * y
    return z / 3


class TextSketch:
    """Length, vocabulary and diversity of a stream of texts in about 600 kB at most.

    Word counts are exact; words go to 2^16 hashed buckets, so the Jensen-Shannon divergence of two sketches is a lower
    bound of the true one (words that share a bucket can only look more alike). Of one text the first 4,096 words count.
    """

    __slots__ = ("_cache", "_ends", "_pending", "bigram_total", "bigrams", "buckets", "chars", "lengths", "unigram_total", "unigrams")

    def __init__(self) -> None:
        self.lengths = Histogram()
        self.chars = 0
        self.unigram_total = 0
        self.bigram_total = 0
        self.unigrams = DistinctCount()
        self.bigrams = DistinctCount()
        self.buckets: npt.NDArray[np.int64] = np.zeros(BUCKETS, np.int64)
        self._cache: dict[str, int] = {}
        self._pending: list[int] = []
        self._ends: list[int] = []

    def add(self, text: str, words: list[str]) -> None:
        """`words` is `words_of(text)`, made by the caller because it may be needed twice."""
        self.lengths.add(length_bin(len(words)), len(words))
        self.chars += len(text)
        if not words:
            return
        cache = self._cache
        for word in words[:SKETCHED_WORDS]:
            code = cache.get(word)
            if code is None:
                code = cache[word] = hash64(word)
            self._pending.append(code)
        self._ends.append(len(self._pending) - 1)
        if len(self._pending) >= FLUSH_WORDS:
            self.flush()

    def flush(self) -> None:
        """Move what is pending into the sketches; called by every reader of them."""
        if not self._pending:
            return
        codes = np.array(self._pending, np.uint64)
        self.buckets += np.bincount((codes % np.uint64(BUCKETS)).astype(np.intp), minlength=BUCKETS)
        self.unigrams.add(_mixed(codes))
        inside = np.ones(len(codes), bool)
        inside[self._ends] = False  # the last word of a text begins no bigram
        starts = np.flatnonzero(inside)
        self.bigrams.add(_mixed(codes[starts] * np.uint64(0x9E3779B97F4A7C15) + codes[starts + 1]))
        self.unigram_total += len(codes)
        self.bigram_total += len(starts)
        self._pending.clear()
        self._ends.clear()
        if len(self._cache) > CACHED_WORDS:
            self._cache.clear()

    def merge(self, other: TextSketch) -> None:
        self.flush()
        other.flush()
        self.lengths.merge(other.lengths)
        self.chars += other.chars
        self.unigram_total += other.unigram_total
        self.bigram_total += other.bigram_total
        self.unigrams.merge(other.unigrams)
        self.bigrams.merge(other.bigrams)
        self.buckets += other.buckets

    @classmethod
    def union(cls, parts: Iterable[TextSketch]) -> TextSketch:
        out = cls()
        for part in parts:
            out.merge(part)
        return out

    def distinct(self, n: int) -> float | None:
        """Distinct-n (Li et al. 2016): different n-grams / all n-grams, n = 1 or 2, over the whole stream; None without any."""
        self.flush()
        sketch, total = (self.unigrams, self.unigram_total) if n == 1 else (self.bigrams, self.bigram_total)
        return min(1.0, sketch.estimate() / total) if total else None

    def to_dict(self) -> dict[str, Any]:
        self.flush()
        used = np.flatnonzero(self.buckets)
        return {
            "lengths": self.lengths.to_dict(),
            "chars": self.chars,
            "unigram_total": self.unigram_total,
            "bigram_total": self.bigram_total,
            "unigrams": self.unigrams.to_dict(),
            "bigrams": self.bigrams.to_dict(),
            "buckets": {"at": used.tolist(), "count": self.buckets[used].tolist()},
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> TextSketch:
        out = cls()
        out.lengths = Histogram.from_dict(d["lengths"])
        out.chars, out.unigram_total, out.bigram_total = d["chars"], d["unigram_total"], d["bigram_total"]
        out.unigrams = DistinctCount.from_dict(d["unigrams"])
        out.bigrams = DistinctCount.from_dict(d["bigrams"])
        out.buckets[np.asarray(d["buckets"]["at"], np.intp)] = d["buckets"]["count"]
        return out


def _mixed(codes: Words) -> Words:
    """splitmix64's finaliser: every input bit reaches every output bit."""
    codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return codes ^ (codes >> np.uint64(31))


def jensen_shannon(left: TextSketch, right: TextSketch) -> float | None:
    """Jensen-Shannon divergence (base 2, 0 equal to 1 disjoint) of two unigram distributions; None if one is empty."""
    left.flush()
    right.flush()
    if not left.unigram_total or not right.unigram_total:
        return None
    p = left.buckets / left.unigram_total
    q = right.buckets / right.unigram_total
    middle = (p + q) / 2
    return max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def _relative_entropy(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


class KeyCounter:
    """Counts by key with at most `cap` keys: those of smallest hash stay, with exact counts; the rest are summed in `other`.

    A key that ends among the `cap` smallest was among them ever since it was first seen, so nothing of it is lost.
    """

    __slots__ = ("_highest", "cap", "counts", "total")

    def __init__(self, cap: int = 256) -> None:
        self.cap = cap
        self.counts: dict[str, int] = {}
        self.total = 0
        self._highest: tuple[int, str] | None = None  # of a full counter: keys beyond it are not admitted

    def add(self, key: str, n: int = 1) -> None:
        self.total += n
        if key in self.counts:
            self.counts[key] += n
        elif self._highest is None or (hash64(key), key) < self._highest:
            self.counts[key] = n
            self._shrink()

    def merge(self, other: KeyCounter) -> None:
        total = self.total + other.total
        for key, n in other.counts.items():
            self.add(key, n)
        self.total = total

    def _shrink(self) -> None:
        if len(self.counts) > self.cap:
            del self.counts[max(self.counts, key=_by_hash)]
        if len(self.counts) == self.cap:
            self._highest = max(map(_by_hash, self.counts))

    @property
    def other(self) -> int:
        return self.total - sum(self.counts.values())

    def ranked(self) -> list[tuple[str, int]]:
        """Most frequent first, equals by name."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))

    def to_dict(self) -> dict[str, Any]:
        return {"counts": dict(sorted(self.counts.items())), "total": self.total}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], cap: int = 256) -> KeyCounter:
        out = cls(cap)
        for key, n in d["counts"].items():
            out.add(key, n)
        out.total = d["total"]
        return out


def _by_hash(key: str) -> tuple[int, str]:
    return hash64(key), key


Rank = tuple[float, int, str, int]  # priority, hash of (seed, shard, row), shard, row
T = TypeVar("T")


class Reservoir(Generic[T]):
    """The `size` items of smallest rank: a uniform sample where the priorities are equal, and the same in any order of arrival.

    `offer` calls `make` only for an item that is admitted.
    """

    __slots__ = ("items", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: list[tuple[Rank, T]] = []

    def offer(self, rank: Rank, make: Callable[[], T]) -> None:
        items = self.items
        if len(items) >= self.size and rank >= items[-1][0]:
            return
        insort(items, (rank, make()), key=itemgetter(0))
        del items[self.size :]

    def merge(self, other: Reservoir[T]) -> None:
        self.items = sorted(self.items + other.items, key=itemgetter(0))[: self.size]
