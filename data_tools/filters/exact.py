"""Which rows repeat an earlier one to the letter: the same picture as encoded or as decoded, the same caption; and how often it occurs."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b, sha256
from typing import NamedTuple

import numpy as np

from ..io.images import BadImage, encoded
from ..records import Sample
from .base import Need, Signals, narrowed

SHA, PIXELS, CAPTION = "exact.sha256", "exact.pixels", "exact.caption_key"
ACROSS: dict[str, type] = {
    "exact.image_repeats": str,
    "exact.image_copies": int,
    "exact.caption_repeats": str,
    "exact.caption_copies": int,
    "exact.pair_repeats": str,
    "exact.pixels_repeats": str,
    "exact.pixels_copies": int,
}
KEYS: dict[str, tuple[str, ...]] = {"image": (SHA,), "caption": (CAPTION,), "pair": (SHA, CAPTION), "pixels": (PIXELS,)}
BITS = {SHA: 128, CAPTION: 64, PIXELS: 128}  # of each key that are compared


class ExactSignals:
    """`exact.sha256` of the first picture's encoded bytes. Among all rows: `exact.image_repeats`, `exact.caption_repeats`,
    `exact.pair_repeats`: the first row that has the same picture's bytes, the same caption, or both, "shard:row", where one came before;
    `exact.image_copies`, `exact.caption_copies`: how many rows have it, this one counted.
    Only where they are named: `exact.pixels`, the SHA-256 of what the first picture is decoded to (upright, its first frame, transparency
    over white, 8 bits), with its size and mode; `exact.pixels_repeats`, `exact.pixels_copies`: as above, of pictures whose pixels are the
    same in whatever file. Every picture is decoded whole for them.

    Captions are the same when they are after Unicode NFKC, in lower case and with one space for each run of white space. An empty caption
    repeats nothing. Of 10^8 different captions two share a key with probability 3e-4 (64 bits; pictures are compared by 128).
    """

    kinds: dict[str, type] = {SHA: str, PIXELS: str, CAPTION: str, **ACROSS}
    on_request = frozenset(name for name in (PIXELS, *ACROSS) if "pixels" in name)
    usual = tuple(name for name in (SHA, *ACROSS) if "pixels" not in name)
    side = 0

    def __init__(self, names: Sequence[str] = ()) -> None:
        wanted = narrowed((SHA, PIXELS, *ACROSS), names or self.usual)
        self.across = tuple(name for name in wanted if name in ACROSS)
        self.references = frozenset(name for name in wanted if name.endswith("_repeats"))
        self.parts = [part for part in KEYS if any(name.startswith(f"exact.{part}_") for name in self.across)]
        compared = {key for part in self.parts for key in KEYS[part]}
        self.names = tuple(key for key in TELL if key in compared or key in wanted)
        self.hidden = frozenset(self.names) - set(wanted)
        needs: dict[str, Need] = {SHA: "bytes", PIXELS: "pixels", CAPTION: "caption"}
        self.needs = frozenset(needs[name] for name in self.names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        return [{name: TELL[name](sample) for name in self.names} for sample in samples]

    def pack(self, rows: Sequence[Signals]) -> np.ndarray:
        """uint64 [n, K]: the keys' bits that are compared, side by side, 64 a column; 0 for what there is none of."""
        keys = ["".join(str(row.get(name) or "").ljust(BITS[name] // 4, "0")[: BITS[name] // 4] for name in self.names) for row in rows]
        return np.array([[int(key[at : at + 16], 16) for at in range(0, len(key), 16)] for key in keys], np.uint64).reshape(-1, self._width)

    def compare(self, packed: np.ndarray) -> Mapping[str, np.ndarray]:
        told: dict[str, np.ndarray] = {}
        for part in self.parts:
            columns = [packed[:, self._columns(key)] for key in KEYS[part]]
            known = np.logical_and.reduce([column.any(axis=1) for column in columns])
            same = _same(np.concatenate(columns, axis=1), known)
            told |= {f"exact.{part}_repeats": same.first, f"exact.{part}_copies": same.copies}
        return {name: told[name] for name in self.across}

    @property
    def _width(self) -> int:
        return sum(BITS[name] for name in self.names) // 64

    def _columns(self, key: str) -> slice:
        start = sum(BITS[name] for name in self.names[: self.names.index(key)]) // 64
        return slice(start, start + BITS[key] // 64)


class Same(NamedTuple):
    """Of each row the number of the first row with the same keys, -1 where it is the first; and how many rows have them."""

    first: np.ndarray
    copies: np.ndarray


def _same(keys: np.ndarray, known: np.ndarray) -> Same:
    """For keys [N, K] in row order; rows that are not `known` repeat nothing and have no copies."""
    first, copies = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
    rows = np.flatnonzero(known)
    if len(rows):
        order = rows[np.lexsort(keys[rows].T)]  # equal keys stand together, in row order
        starts = np.flatnonzero(np.r_[True, (keys[order][1:] != keys[order][:-1]).any(axis=1)])
        counts = np.diff(np.r_[starts, len(order)])
        leaders = np.repeat(order[starts], counts)
        first[order] = np.where(order == leaders, -1, leaders)
        copies[order] = np.repeat(counts, counts)
    return Same(first, copies)


def _sha(sample: Sample) -> str | None:
    try:
        return sha256(encoded(sample.images[0])).hexdigest() if sample.images else None
    except BadImage:
        return None


def _caption_key(sample: Sample) -> str | None:
    flat = " ".join(unicodedata.normalize("NFKC", sample.caption or "").lower().split())
    return blake2b(flat.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() if flat else None


def _pixels(sample: Sample) -> str | None:
    picture = sample.images[0].pixels if sample.images else None
    if picture is None:
        return None
    return sha256(f"{picture.mode} {picture.width} {picture.height}\n".encode() + picture.tobytes()).hexdigest()


TELL: dict[str, Callable[[Sample], str | None]] = {SHA: _sha, PIXELS: _pixels, CAPTION: _caption_key}
