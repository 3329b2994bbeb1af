"""Which rows an epoch holds and in which order: a function of (seed, epoch) and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .packing import packs_of

Rows = np.ndarray  # int64 row numbers
SHUFFLED, CHOSEN, BATCHES, PACKS = 0, 1, 2, 3  # what a stream of random numbers is for
MEGABATCHES = 50  # batches that are sorted by length together, as in the library's LengthGroupedSampler


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """An independent stream of random numbers for each purpose."""
    return np.random.default_rng([seed, *purpose])


def rows_of_epoch(groups: Sequence[Rows], weights: Sequence[float], seed: int, epoch: int) -> Rows:
    """Rows of one epoch, source after source: of weight 2.5, every row twice and another half of the rows in each epoch.

    The fractional part walks round a fixed permutation of the source, so that epochs share its rows out evenly. The
    number of rows is the same in every epoch.
    """
    parts: list[Rows] = []
    for at, (rows, weight) in enumerate(zip(groups, weights, strict=True)):
        parts += [rows] * int(weight) + [_share(rows, weight % 1, seed, at, epoch)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _share(rows: Rows, share: float, seed: int, at: int, epoch: int) -> Rows:
    if not share or not len(rows):
        return rows[:0]
    count = max(1, round(share * len(rows)))
    order = generator(seed, CHOSEN, at).permutation(len(rows))
    return rows[order[(epoch * count + np.arange(count)) % len(rows)]]


def shuffled(rows: Rows, seed: int, *purpose: int) -> Rows:
    return generator(seed, *purpose).permutation(rows)


def grouped(rows: Rows, lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> Rows:
    """Shuffled rows rearranged so that each `batch_size` in a row have like lengths; the batches stay in random order.

    Blocks of 50 batches are sorted by length and dealt out. The batch of the longest row comes first, so that memory runs
    out at the start or not at all; an incomplete batch comes last.
    """
    block = MEGABATCHES * batch_size
    sorted_rows = [chunk[np.argsort(-lengths[chunk], kind="stable")] for chunk in np.split(rows, range(block, len(rows), block))]
    flat = np.concatenate(sorted_rows)
    whole = len(flat) // batch_size
    batches, rest = flat[: whole * batch_size].reshape(whole, batch_size), flat[whole * batch_size :]
    batches = batches[generator(seed, BATCHES, epoch).permutation(whole)]
    if whole:
        longest = int(lengths[batches].max(1).argmax())
        batches[[0, longest]] = batches[[longest, 0]]
    return np.concatenate([batches.reshape(-1), rest])


class Items(Sequence[Rows]):
    """The rows of each item, in 16 bytes a row: item i is `rows[ends[i] : ends[i + 1]]`."""

    def __init__(self, rows: Rows, ends: np.ndarray) -> None:
        self.rows, self.ends = rows, ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, item: Any) -> Any:
        at = range(len(self))[item]
        return self.rows[self.ends[at] : self.ends[at + 1]]


@dataclass(frozen=True)
class Order:
    """The items of every epoch: rows, or packs of rows.

    groups: the rows of each source. weights: see `rows_of_epoch`. lengths: tokens of every row. batch_size: how many rows in a
    row get like lengths (None: no grouping). capacity: tokens of a pack (None: items are rows). Of whole weights the packs
    are the same in every epoch and only their order changes. Of others they differ, and so may their number: an epoch then
    leaves its last packs out, or repeats its first, to be as long as epoch 0.
    """

    groups: Sequence[Rows]
    weights: Sequence[float]
    lengths: np.ndarray
    seed: int
    shuffle: bool = True
    batch_size: int | None = None
    capacity: int | None = None

    def items(self, epoch: int) -> Items:
        """The rows of each item of an epoch."""
        return self._rows(epoch) if self.capacity is None else self._packs(epoch)

    def _rows(self, epoch: int) -> Items:
        rows = self._mixed(epoch)
        if self.batch_size is not None and self.shuffle:
            rows = grouped(rows, self.lengths, self.batch_size, self.seed, epoch)
        return Items(rows, np.arange(len(rows) + 1))

    def _mixed(self, epoch: int) -> Rows:
        rows = rows_of_epoch(self.groups, self.weights, self.seed, epoch)
        return shuffled(rows, self.seed, SHUFFLED, epoch) if self.shuffle else rows

    def _packs(self, epoch: int) -> Items:
        whole = all(weight % 1 == 0 for weight in self.weights)
        made = self._first_packs if whole or epoch == 0 else self._packed(epoch)
        order = shuffled(np.arange(len(made)), self.seed, PACKS, epoch) if self.shuffle else np.arange(len(made))
        chosen = [made[i] for i in order[np.arange(len(self._first_packs)) % len(made)]]
        return Items(np.concatenate(chosen), np.cumsum([0, *map(len, chosen)]))

    @cached_property
    def _first_packs(self) -> list[Rows]:
        return self._packed(0)

    def _packed(self, epoch: int) -> list[Rows]:
        assert self.capacity is not None
        return packs_of(self._mixed(epoch), self.lengths, self.capacity)
