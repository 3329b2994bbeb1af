"""Greedy determinantal point process: frames that are near the query and unlike each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .base import best_first
from .candidates import Candidates
from .k_center import unit

ALPHAS = tuple(2.0**k for k in range(-3, 2))
FLOOR = 1e-10  # of what a frame adds to the determinant: copies add nothing, and the logarithm stays a number


def dpp(candidates: Candidates, n: int, *, diversity: float = 0.2) -> np.ndarray:
    """Greedily maximises (2 / diversity) sum log r_i + log det S over the chosen frames, S and r = k(frame, query) by the kernel of
    MDP3 (arXiv 2501.02885), which is this method in stretches of film; without a query r is 1.

    Frames that add the same are taken evenly over the film. Cost n^2 N.
    """
    model = Kernel.of(candidates, diversity)
    places = np.arange(len(candidates))
    return places[model.greedy(places, n).order]


class Greedy(NamedTuple):
    """Places (within those offered) in the order they were chosen, and the objective with the first 0, 1, 2 ... of them."""

    order: np.ndarray
    values: np.ndarray


class Kernel(NamedTuple):
    """similarity [N, N] and weight [N] = (2 / diversity) log r: all that the objective needs."""

    similarity: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, candidates: Candidates, diversity: float) -> Kernel:
        """On unit embeddings. ValueError for a query of another width, or a diversity that is not positive."""
        if not diversity > 0:
            raise ValueError(f"diversity is a positive number, got {diversity}")
        frames = unit(candidates.embeddings())
        if candidates.query is None:
            return cls(gaussians(frames, frames), np.zeros(len(frames)))
        query = unit(np.asarray(candidates.query, np.float64).reshape(1, -1))
        if query.shape[1] != frames.shape[1]:
            raise ValueError(f"frames are embedded in {frames.shape[1]} dimensions, the query in {query.shape[1]}")
        return cls(gaussians(frames, frames), 2 / diversity * np.log(gaussians(frames, query)[:, 0]))

    def greedy(self, offered: np.ndarray, n: int, given: int | None = None) -> Greedy:
        """Chooses n of `offered`, one after another, each with the largest objective beside those chosen before and frame `given`.

        Values are those of all together, `given` counted; the first is that of `given` alone, 0 without it.
        """
        value, left = 0.0, self.similarity[offered, offered].copy()
        rows = np.zeros((0, len(offered)))  # of the Cholesky factor; `left` is what remains of the diagonal
        if given is not None:
            rest = float(self.similarity[given, given])
            rows = self.similarity[given : given + 1, offered] / math.sqrt(rest)
            left, value = left - rows[0] ** 2, float(self.weight[given]) + math.log(rest)
        order: list[int] = []
        values = [value]
        for _ in range(n):
            gains = self.weight[offered] + np.log(np.maximum(left, FLOOR))
            gains[order] = -np.inf
            best = int(best_first(np.round(gains, 9))[0])
            row = (self.similarity[offered[best], offered] - rows[:, best] @ rows) / math.sqrt(max(left[best], FLOOR))
            rows, left, value = np.vstack([rows, row]), left - row**2, value + float(gains[best])
            order.append(best)
            values.append(value)
        return Greedy(np.array(order, np.int64), np.array(values))


def gaussians(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """k(x, y) = sum over a in 1/8, 1/4, 1/2, 1, 2 of exp(-|x - y|^2 / 2a): [N, D], [M, D] -> [N, M]."""
    squared = (one**2).sum(1)[:, None] + (other**2).sum(1)[None, :] - 2 * one @ other.T
    return sum(np.exp(-np.maximum(squared, 0) / (2 * alpha)) for alpha in ALPHAS)
