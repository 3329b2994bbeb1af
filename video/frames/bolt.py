"""BOLT (arXiv 2503.21483): frames at equal steps of the summed scores, which is inverse transform sampling without chance."""

from __future__ import annotations

import numpy as np

from .base import best_first
from .candidates import Candidates


def bolt(candidates: Candidates, n: int, *, power: float = 1.0) -> np.ndarray:
    """Scores are brought to [0, 1] and raised to `power`; their cumulated share F is read at linspace(1/n, 1 - 1/n, n): of each, the
    first frame where F reaches it [R: sming256/BOLT select_frames.py, inverse_transform_sampling].

    The source repeats a frame whose share is larger than a step, reads one point only for n = 2 and none for n = 1, and divides by zero
    where all scores are equal. Here a repeated frame is taken once and the best of the others make up the number, n below 3 reads at
    (i + 1/2) / n, and equal scores have equal shares.
    """
    scores = candidates.scores()
    weights = (scores - scores.min()) ** power
    if weights.sum() <= 0:
        weights = np.ones_like(scores)
    shares = np.cumsum(weights / weights.sum())
    steps = np.linspace(1 / n, 1 - 1 / n, n) if n > 2 else (np.arange(n) + 0.5) / n
    found = np.unique(np.searchsorted(shares, steps).clip(max=len(scores) - 1))
    others = best_first(scores)
    return np.concatenate([found, others[~np.isin(others, found)][: n - len(found)]])
