"""What every reducer keeps to: shapes of any kind, places that are true, numbers told beforehand, the same answer twice."""

import pytest
import torch

from video.tokens import REDUCERS, Reduced, build_reducer

SHAPES = [(1, (1, 1), 4), (2, (3, 2), 8), (9, (7, 5), 16), (5, (14, 14), 32)]


def seen(frames, grid, width=4):
    places = grid[0] * grid[1]
    return {
        "attention": torch.rand(frames, places),
        "keys": torch.randn(frames, places, width),
        "pixels": torch.randn(frames, 3, grid[0] * 4, grid[1] * 4),
    }


@pytest.mark.parametrize("name", REDUCERS)
@pytest.mark.parametrize(("frames", "grid", "width"), SHAPES)
def test_any_number_of_frames_on_any_grid(name, frames, grid, width):
    torch.manual_seed(frames)
    features, more, reducer = torch.randn(frames, grid[0] * grid[1], width), seen(frames, grid), REDUCERS[name]()
    got = reducer(features, grid, **more)
    again = reducer(features, grid, **more)
    assert torch.equal(got.features, again.features)
    assert torch.equal(got.positions, again.positions)
    assert 1 <= len(got.features) <= frames * grid[0] * grid[1]
    assert got.features.isfinite().all()
    assert (got.weight > 0).all()
    assert (got.positions >= 0).all()
    assert (got.positions < torch.tensor([frames, *grid])).all()
    flat = (got.positions[:, 0] * grid[0] + got.positions[:, 1]) * grid[1] + got.positions[:, 2]
    assert (flat.diff() >= 0).all()
    told = reducer.tokens_out(frames, grid)
    assert told is None or told == got.counts(frames)


@pytest.mark.parametrize("name", REDUCERS)
def test_a_constant_film_makes_no_nan(name):
    more = {"attention": torch.full((6, 20), 0.05), "keys": torch.zeros(6, 20, 3), "pixels": torch.zeros(6, 3, 16, 20)}
    for value in (0.0, 1.0):
        got = REDUCERS[name]()(torch.full((6, 20, 8), value), (4, 5), **more)
        assert got.features.isfinite().all()
        assert len(got.features)


@pytest.mark.parametrize("name", REDUCERS)
def test_gradients_reach_the_tokens(name):
    features = torch.randn(5, 20, 8, requires_grad=True)
    REDUCERS[name]()(features, (4, 5), **seen(5, (4, 5))).features.sum().backward()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("name", REDUCERS)
def test_half_precision_and_configs(name):
    got = build_reducer({"type": name})(torch.randn(5, 20, 8).bfloat16(), (4, 5), **seen(5, (4, 5)))
    assert got.features.dtype == torch.bfloat16
    assert got.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="has no option"):
        build_reducer({"type": name, "colour": 1})


PICKING = ["grid_sample", "diff_fp", "dycoke", "vidcom2"]


@pytest.mark.parametrize("name", PICKING)
def test_what_is_only_picked_is_what_lies_at_its_place(name):
    features = torch.randn(9, 20, 8)
    got = REDUCERS[name]()(features, (4, 5), **seen(9, (4, 5)))
    t, y, x = got.positions.T
    assert torch.equal(got.features, features.unflatten(1, (4, 5))[t, y, x])


def test_what_cannot_be_reduced_is_told():
    features = torch.randn(3, 20, 8)
    with pytest.raises(ValueError, match="grid of 4 x 4"):
        REDUCERS["average_pool"]()(features, (4, 4))
    with pytest.raises(ValueError, match="needs the attention"):
        REDUCERS["visionzip"]()(features, (4, 5))
    with pytest.raises(ValueError, match="needs the pixels"):
        REDUCERS["diff_fp"]()(features, (4, 5))
    with pytest.raises(ValueError, match="attention of frames"):
        REDUCERS["visionzip"]()(features, (4, 5), attention=torch.rand(3, 19))
    with pytest.raises(ValueError, match="did you mean 'average_pool'"):
        build_reducer({"type": "averagepool"})
    with pytest.raises(ValueError, match="share between"):
        build_reducer({"type": "vidcom2", "keep": 1.5})
    with pytest.raises(ValueError, match="above zero"):
        build_reducer({"type": "average_pool", "kernel": 0})
    with pytest.raises(ValueError, match="positions"):
        Reduced(torch.zeros(3, 8), torch.zeros(2, 3, dtype=torch.long), torch.ones(3))
