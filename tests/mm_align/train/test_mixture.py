"""Epochs by hand and by property: shares of the sources, like lengths together, packs that fit, all of it repeatable."""

from collections import Counter

import numpy as np
import pytest

from mm_align.train.mixture import Order, grouped, rows_of_epoch, shuffled
from mm_align.train.packing import packs_of

LENGTHS = np.random.default_rng(0).integers(1, 100, 1000)


def order(weights: list[float], **options: object) -> Order:
    groups = [np.arange(0, 300), np.arange(300, 1000)][: len(weights)]
    return Order(groups, weights, LENGTHS, **({"seed": 5} | options))  # type: ignore[arg-type]


def test_weights_are_how_often_a_row_is_seen() -> None:
    """Weight 2.5 of 4 rows: each twice and 2 of them again, the other 2 in the next epoch. Weight 0.25 of 4: another one each epoch."""
    groups = [np.arange(4), np.arange(4, 8)]
    epochs = [Counter(rows_of_epoch(groups, [2.5, 0.25], 0, epoch).tolist()) for epoch in range(4)]
    assert [sum(c[row] for row in range(4)) for c in epochs] == [10] * 4
    assert [sum(c[row] for row in range(4, 8)) for c in epochs] == [1] * 4
    both = epochs[0] + epochs[1]
    assert [both[row] for row in range(4)] == [5] * 4
    assert sorted(row for c in epochs for row in range(4, 8) if c[row]) == [4, 5, 6, 7]


def test_shares_of_the_mixture() -> None:
    """300 rows of weight 2 and 700 of weight 0.1: 600 and 70 in every epoch."""
    for epoch in range(3):
        rows = np.concatenate(order([2, 0.1]).items(epoch))
        assert ((rows < 300).sum(), (rows >= 300).sum()) == (600, 70)


def test_a_small_share_is_at_least_one_row() -> None:
    assert len(rows_of_epoch([np.arange(3)], [0.01], 0, 0)) == 1
    assert len(rows_of_epoch([np.arange(0)], [1.5], 0, 0)) == 0


@pytest.mark.parametrize("options", [{}, {"batch_size": 8}, {"capacity": 128}, {"shuffle": False}])
def test_every_epoch_holds_every_row_once(options: dict[str, object]) -> None:
    for epoch in (0, 1):
        rows = np.concatenate(order([1, 1], **options).items(epoch))
        assert sorted(rows.tolist()) == list(range(1000))


@pytest.mark.parametrize("options", [{}, {"batch_size": 8}, {"capacity": 128}])
def test_order_is_a_function_of_seed_and_epoch(options: dict[str, object]) -> None:
    def rows(epoch: int, **more: object) -> list[int]:
        return np.concatenate(order([1, 0.5], **options, **more).items(epoch)).tolist()

    assert rows(1) == rows(1)
    assert rows(1) != rows(0)
    assert rows(1) != rows(1, seed=6)


def test_without_shuffling_rows_keep_their_order() -> None:
    assert np.concatenate(order([1, 1], shuffle=False).items(3)).tolist() == list(range(1000))


def test_grouped_by_hand() -> None:
    """Six rows, batches of two: sorted by length they are 5 3 | 1 4 | 2 0; the longest batch comes first."""
    lengths = np.array([1, 8, 2, 9, 3, 9])
    found = grouped(np.arange(6), lengths, 2, seed=0, epoch=0).reshape(3, 2)
    assert found[0].tolist() == [3, 5]
    assert sorted(map(tuple, found.tolist())) == [(1, 4), (2, 0), (3, 5)]


def test_grouping_saves_padding() -> None:
    """Measured: the padding of shuffled batches of 8 is 43 % of all tokens here, of grouped ones 2 %."""

    def padding(rows: np.ndarray) -> float:
        batches = LENGTHS[rows[: len(rows) // 8 * 8]].reshape(-1, 8)
        return 1 - batches.sum() / (batches.max(1).sum() * 8)

    mixed = shuffled(np.arange(1000), 0)
    assert padding(mixed) > 0.3
    assert padding(grouped(mixed, LENGTHS, 8, 0, 0)) < 0.05


def test_packs_by_hand() -> None:
    """Lengths 6 5 4 3 2 into packs of 10: 6 + 4, 5 + 3 + 2."""
    packs = packs_of(np.arange(5), np.array([4, 2, 6, 3, 5]), 10)
    assert sorted(sorted(p.tolist()) for p in packs) == [[0, 2], [1, 3, 4]]


def test_packs_fit_and_are_full() -> None:
    packs = packs_of(shuffled(np.arange(1000), 0), LENGTHS, 128)
    sizes = np.array([LENGTHS[p].sum() for p in packs])
    assert sizes.max() <= 128
    assert sizes.mean() > 0.97 * 128
    assert sorted(np.concatenate(packs).tolist()) == list(range(1000))


def test_packs_of_windows_stay_within_them() -> None:
    packs = packs_of(np.arange(1000), LENGTHS, 128, window=100)
    assert all(len(set((p // 100).tolist())) == 1 for p in packs)


def test_a_row_too_long_for_a_pack_is_an_error() -> None:
    with pytest.raises(ValueError, match="a row of 12 tokens does not fit in packs of 10"):
        packs_of(np.arange(2), np.array([3, 12]), 10)


def test_epochs_of_packs_have_one_length() -> None:
    """Whole weights: the same packs in another order. Fractions: other packs, as many."""
    whole, parts = order([1, 2], capacity=128), order([1, 0.3], capacity=128)
    assert {tuple(p) for p in whole.items(0)} == {tuple(p) for p in whole.items(1)}
    assert len({len(parts.items(epoch)) for epoch in range(4)}) == 1
