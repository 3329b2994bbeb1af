"""Pools and grids against plain loops, and against LLaVA-NeXT's and Opt-Visor's code."""

import itertools

import pytest
import torch

from video.tokens import REDUCERS


def windows(sizes, kernels):
    """Lists of (t, y, x) by window, in order of the windows."""
    axes = [[range(i, min(i + k, size)) for i in range(0, size, k)] for size, k in zip(sizes, kernels, strict=True)]
    return [list(itertools.product(*window)) for window in itertools.product(*axes)]


def middle(window):
    """The middle of each axis, of two the earlier."""
    return [sorted({place[axis] for place in window})[(len({place[axis] for place in window}) - 1) // 2] for axis in range(3)]


@pytest.mark.parametrize("edges", ["real", "zeros"])
@pytest.mark.parametrize(("name", "kernels"), [("average_pool", (1, 4, 4)), ("temporal_pool", (5, 2, 2)), ("temporal_pool", (2, 1, 1))])
def test_means_of_windows(name, kernels, edges, make_film):
    film = make_film(0, frames=7, grid=(9, 6), width=5).unflatten(1, (9, 6))
    options = {"kernel": kernels[1]} | ({"frames": kernels[0]} if name == "temporal_pool" else {})
    got = REDUCERS[name](edges=edges, **options)(film.flatten(1, 2), (9, 6))
    found = windows((7, 9, 6), kernels)
    for row, window in enumerate(found):
        total = torch.stack([film[place] for place in window]).sum(0)
        assert torch.allclose(
            got.features[row], total / (len(window) if edges == "real" else kernels[0] * kernels[1] * kernels[2]), atol=1e-6
        )
        assert got.positions[row].tolist() == middle(window)
        assert got.weight[row] == len(window)
    assert len(got.features) == len(found)


def test_zeros_at_the_edges_are_opt_visors(totals, make_film):
    """Its projectors with the MLP left away: 27 -> 7 a side; constant frames have 3/4 in the last row and column, 9/16 in the corner."""
    film = make_film(0, grid=(9, 9))
    one, other = REDUCERS["average_pool"](kernel=4, edges="zeros"), REDUCERS["temporal_pool"](frames=5, kernel=2, edges="zeros")
    assert totals(one(film, (9, 9)).features) == (108, -924.51, 539.62)
    assert totals(other(film, (9, 9)).features) == (75, -739.61, 569.28)
    flat = one(torch.ones(1, 729, 1), (27, 27)).features.view(7, 7)
    assert flat[:6, :6].unique().tolist() == [1]
    assert (flat[6, 0], flat[0, 6], flat[6, 6]) == (0.75, 0.75, 0.5625)
    assert one.tokens_out(1, (27, 27)) == [49]
    assert torch.equal(REDUCERS["average_pool"](kernel=4)(torch.ones(1, 729, 1), (27, 27)).features, torch.ones(49, 1))


@pytest.mark.parametrize(
    ("mode", "numbers"), [("average", (192, -2287.71, 2794.41)), ("max", (192, 118240.64, 7517.22)), ("bilinear", (300, -6499.52, 5895.75))]
)
def test_llava_pools_are_those_of_llava_next(mode, numbers, totals, make_film):
    got = REDUCERS["llava_pool"](mode=mode)(make_film(0, grid=(9, 9)), (9, 9))
    assert numbers == totals(got.features)
    assert REDUCERS["llava_pool"](mode=mode).tokens_out(1, (27, 27)) == [196 if mode == "bilinear" else 169]


def test_bilinear_by_hand():
    """Five columns to three: sample i lies at (i + 1/2) 5/3 - 1/2 = 1/3, 2, 11/3."""
    got = REDUCERS["llava_pool"]()(torch.tensor([[0.0, 3.0, 6.0, 9.0, 12.0]])[..., None], (1, 5))
    assert got.features[:, 0].tolist() == pytest.approx([1, 6, 11])
    assert got.positions[:, 2].tolist() == [0, 2, 4]
    assert got.weight.sum() == 5


def test_average_needs_a_window():
    with pytest.raises(ValueError, match="holds no window"):
        REDUCERS["llava_pool"](mode="average")(torch.randn(1, 1, 4), (1, 1))


def test_a_grid_is_every_second_row_and_column(make_film):
    film = make_film(1, grid=(5, 4)).unflatten(1, (5, 4))
    got = REDUCERS["grid_sample"](stride=2, start=1)(film.flatten(1, 2), (5, 4))
    wanted = [(t, y, x) for t in range(12) for y in (1, 3) for x in (1, 3)]
    assert [tuple(place) for place in got.positions.tolist()] == wanted
    assert torch.equal(got.features, torch.stack([film[place] for place in wanted]))
