"""Tokens of films: scenes of frames in which half of the places stand still, from a frozen random stream."""

import numpy as np
import pytest
import torch

GRID = (6, 7)


def film(seed, frames=12, grid=GRID, width=32, scene=4):
    random = np.random.RandomState(seed)
    places = grid[0] * grid[1]
    scenes = random.randn(frames // scene + 1, places, width)[np.arange(frames) // scene]
    noise = np.where(random.rand(places) < 0.5, 0.15, 0.9)[None, :, None]
    return torch.tensor((scenes + noise * random.randn(frames, places, width)).astype(np.float32))


def attended(seed, frames=12, places=42):
    return torch.tensor(np.random.RandomState(1000 + seed).rand(frames, places).astype(np.float32) ** 3)


def figures(tokens):
    """How many rows, the sum of features each weighed by its column from 1 on, the sum of magnitudes: what a peer's code gave, run outside
    the project, to two decimals."""
    tokens = tokens.reshape(-1, tokens.shape[-1]).double()
    weighed = (tokens * torch.arange(1, tokens.shape[1] + 1)).sum()
    return pytest.approx((len(tokens), float(weighed), float(tokens.abs().sum())), abs=0.02)


def rows(tokens):
    """In an order that does not hang on where they came from."""
    values = tokens.reshape(-1, tokens.shape[-1]).double().numpy()
    return values[np.lexsort(values.T[::-1])]


@pytest.fixture
def make_film():
    return film


@pytest.fixture
def make_attention():
    return attended


@pytest.fixture
def totals():
    return figures


@pytest.fixture
def sorted_rows():
    return rows
