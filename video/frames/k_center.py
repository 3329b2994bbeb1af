"""Greedy k-centre: each frame the one least like all that are chosen; covers what is in the film, without a query."""

from __future__ import annotations

import numpy as np

from .base import best_first
from .candidates import Candidates


def k_center(candidates: Candidates, n: int) -> np.ndarray:
    """Gonzalez' farthest-first traversal (1985) on unit embeddings, within twice the best covering radius. The first frame is the one
    nearest to the mean of all; equally far ones are taken evenly over the film."""
    embeddings = unit(candidates.embeddings())
    chosen = [int(best_first(embeddings @ embeddings.mean(axis=0))[0])]
    apart = _distance(embeddings, chosen[0])
    while len(chosen) < n:
        apart[chosen] = -1.0
        chosen.append(int(best_first(np.round(apart, 12))[0]))
        apart = np.minimum(apart, _distance(embeddings, chosen[-1]))
    return np.array(chosen)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays one."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)


def _distance(embeddings: np.ndarray, place: int) -> np.ndarray:
    return np.linalg.norm(embeddings - embeddings[place], axis=1)
