"""The layer with room behind its tokens against the library's own, step by step."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from mm_align.backends.growing import LEAST_ROOM, GrowingLayer, closed_up, with_room


def columns(rows: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, 2, count, 3, generator=random) for _ in range(2))


def filled(rows: int, count: int) -> DynamicLayer:
    layer = DynamicLayer()
    layer.update(*columns(rows, count, 0))
    return layer


def test_holds_what_the_plain_layer_holds():
    """Widened, written, rows dropped in place, written beyond its room, and reordered so that rows must be copied."""
    plain, growing = filled(2, 3), GrowingLayer(filled(2, 3))
    steps = [[0, 0, 0, 1, 1, 1], 1, 1, [0, 5, 2, 3], LEAST_ROOM + 9, [0, 3, 2], 2, [2, 1], 1]  # rows to keep, or columns to write
    for seed, step in enumerate(steps, start=1):
        if isinstance(step, int):
            states = columns(plain.keys.shape[0], step, seed)
            for found, expected in zip(growing.update(*states), plain.update(*states), strict=True):
                assert torch.equal(found, expected)
        else:
            plain.batch_select_indices(torch.tensor(step))
            growing.batch_select_indices(torch.tensor(step))
        assert torch.equal(growing.keys, plain.keys)
        assert torch.equal(growing.values, plain.values)
        assert growing.get_seq_length() == plain.get_seq_length()


def test_a_step_copies_nothing_but_its_column():
    layer = GrowingLayer(filled(2, 3))
    layer.update(*columns(2, 1, 1))
    before = layer.keys.data_ptr()
    layer.update(*columns(2, 1, 2))
    layer.batch_select_indices(torch.tensor([1]))
    assert layer.keys.data_ptr() == before


@pytest.mark.parametrize(
    ("kept", "order"),
    [([0, 1, 2], [0, 1, 2]), ([1, 2, 5], [5, 1, 2]), ([4, 5, 6], [4, 5, 6]), ([0, 3, 4, 7], [0, 4, 7, 3]), ([], []), ([6], [6])],
)
def test_the_last_rows_fill_the_free_places(kept, order):
    assert closed_up(kept) == order


def test_layers_of_another_kind_stay():
    cache = DynamicCache()
    cache.layers = [filled(1, 2), DynamicLayer(), GrowingLayer(filled(1, 2))]
    with_room(cache)
    assert [type(layer) for layer in cache.layers] == [GrowingLayer, DynamicLayer, GrowingLayer]
