"""A law to fit, runs of it with noise, and a film to plan for."""

from __future__ import annotations

from typing import Any

import numpy as np

from video.budget import Runs
from video.budget.planning import Footage

# E + A T^-a + B M^-b with its optimum at T = 120, M = 50 for T M = 6000, as in the recovery study (scripts/proving/video_law.py).
a, b, E = 0.35, 0.45, 0.6
BALANCE = 0.0832 / (1 / a + 1 / b)
TRUE = {"E": E, "A": BALANCE / a * 120**a, "a": a, "B": BALANCE / b * 50**b, "b": b}
FRAMES, TOKENS = (8, 16, 32, 64, 128), (4, 9, 25, 49, 196)


def true_loss(frames: Any, tokens: Any) -> Any:
    return TRUE["E"] + TRUE["A"] * np.asarray(frames, float) ** -a + TRUE["B"] * np.asarray(tokens, float) ** -b


def grid() -> tuple[np.ndarray, np.ndarray]:
    """T, M of the 5 x 5 grid: [25] each."""
    frames, tokens = (axis.ravel() for axis in np.meshgrid(np.array(FRAMES, float), np.array(TOKENS, float)))
    return frames, tokens


def noisy(noise: float, seed: int = 0, loss: Any = true_loss, **options: Any) -> Runs:
    frames, tokens = grid()
    values = loss(frames, tokens) + noise * np.random.default_rng(seed).standard_normal(len(frames))
    return Runs(frames, tokens, values, **options)


def film(n_frames: int = 900, fps: float = 30.0) -> Footage:
    return Footage(n_frames, lambda n: np.unique(np.linspace(0, n_frames - 1, n).astype(int)), np.arange(n_frames) / fps)
