"""Which rows repeat an earlier one to the letter: the same encoded picture, the same caption, or both; and how often a caption occurs."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256
from typing import NamedTuple

import numpy as np

from ..io.images import BadImage, encoded
from ..records import Sample
from .base import Need, Signals, narrowed

SHA, CAPTION = "exact.sha256", "exact.caption_key"
ACROSS: dict[str, type] = {
    "exact.image_repeats": str,
    "exact.image_copies": int,
    "exact.caption_repeats": str,
    "exact.caption_copies": int,
    "exact.pair_repeats": str,
}


class ExactSignals:
    """`exact.sha256` of the first picture's encoded bytes. Among all rows: `exact.image_repeats`, `exact.caption_repeats`,
    `exact.pair_repeats`: the first row that has the same picture's bytes, the same caption, or both, "shard:row", where one came before;
    `exact.image_copies`, `exact.caption_copies`: how many rows have it, this one counted.

    Captions are the same when they are after Unicode NFKC, in lower case and with one space for each run of white space. An empty caption
    repeats nothing. Of 10^8 different captions two share a key with probability 3e-4 (64 bits; pictures are compared by 128).
    """

    kinds: dict[str, type] = {SHA: str, CAPTION: str, **ACROSS}

    def __init__(self, names: Sequence[str] = ()) -> None:
        wanted = narrowed((SHA, *ACROSS), names)
        self.across = tuple(name for name in wanted if name in ACROSS)
        self.references = frozenset(name for name in wanted if name.endswith("_repeats"))
        parts = {name: name.split(".")[1].partition("_")[0] for name in wanted}
        pictures, captions = ({part, "pair"} & set(parts.values()) for part in ("image", "caption"))
        self.names = (*((SHA,) if pictures or SHA in wanted else ()), *((CAPTION,) if captions else ()))
        self.hidden = frozenset({SHA, CAPTION}) - set(wanted)
        needs: dict[str, Need] = {SHA: "bytes", CAPTION: "caption"}
        self.needs = frozenset(needs[name] for name in self.names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        tell = {SHA: _sha, CAPTION: _caption_key}
        return [{name: tell[name](sample) for name in self.names} for sample in samples]

    def pack(self, rows: Sequence[Signals]) -> np.ndarray:
        """uint64 [n, 3]: 128 bits of the picture's hash, 64 of the caption's; 0 for what there is none of."""
        keys = [(str(row.get(SHA) or "0" * 32)[:32], str(row.get(CAPTION) or "0")) for row in rows]
        numbers = [(int(sha[:16], 16), int(sha[16:], 16), int(caption, 16)) for sha, caption in keys]
        return np.array(numbers, np.uint64).reshape(-1, 3)

    def compare(self, packed: np.ndarray) -> Mapping[str, np.ndarray]:
        told: dict[str, np.ndarray] = {}
        picture, caption = packed[:, :2].any(axis=1), packed[:, 2] != 0
        columns = {"image": (packed[:, :2], picture), "caption": (packed[:, 2:], caption), "pair": (packed, picture & caption)}
        for part, (keys, known) in columns.items():
            if any(name.startswith(f"exact.{part}_") for name in self.across):
                same = _same(keys, known)
                told |= {f"exact.{part}_repeats": same.first, f"exact.{part}_copies": same.copies}
        return {name: told[name] for name in self.across}


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
