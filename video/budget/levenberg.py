"""Weighted least squares with Huber's loss, by Levenberg and Marquardt, for many problems of one form at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .forms import Form

STEPS = 100
DONE = 1e-10  # relative change of the loss
HUBER = 2.0  # standard deviations: as good as squares where noise is normal (99 %), and a run that went astray moves little
LEAST_DAMPING, MOST_DAMPING = 1e-9, 1e12


class Solved(NamedTuple):
    """search: [S, p]. loss: [S], half the sum of weighted squares (Huber's, where asked for)."""

    search: np.ndarray
    loss: np.ndarray


def solve(
    form: Form,
    starts: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    bounds: np.ndarray,
    huber: np.ndarray | None = None,
) -> Solved:
    """The minimum near each start.

    starts: [S, p]. x, y: [n]. values, weights: [S, n] or [n]. bounds: [2, p]; a step beyond is cut there. huber: [S], beyond how many
    units of sqrt(weight) times residual a run counts linearly; None for squares.
    """
    count = len(starts)
    values, weights = (np.broadcast_to(part, (count, len(x))) for part in (values, weights))
    limit = np.full(count, np.inf) if huber is None else np.broadcast_to(huber, count)
    search = np.clip(starts, *bounds)
    loss = _loss(form, search, x, y, values, weights, limit)
    damping, open_ = np.full(count, 1e-3), np.arange(count)
    for _ in range(STEPS):
        if not len(open_):
            break
        part = (values[open_], weights[open_], limit[open_])
        tried = np.clip(search[open_] + _step(form, search[open_], x, y, *part, damping[open_], bounds), *bounds)
        new = _loss(form, tried, x, y, *part)
        better = new < loss[open_]
        small = np.abs(loss[open_] - new) <= DONE * (loss[open_] + 1e-300)
        search[open_[better]], loss[open_[better]] = tried[better], new[better]
        damping[open_] = np.clip(damping[open_] * np.where(better, 0.2, 5.0), LEAST_DAMPING, MOST_DAMPING)
        open_ = open_[~small & (better | (damping[open_] < MOST_DAMPING))]
    return Solved(search, loss)


def _step(
    form: Form,
    search: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    limit: np.ndarray,
    damping: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """The damped Gauss-Newton step of each problem, [S, p]; a parameter at its bound that wants beyond it stays."""
    residual = values - form.value(search, x, y)
    counted = weights * huber_weights(np.sqrt(weights) * residual, limit)  # [S, n]
    slope = form.slope(search, x, y)
    gradient = np.einsum("snp,sn->sp", slope, counted * residual)
    held = ((search <= bounds[0]) & (gradient < 0)) | ((search >= bounds[1]) & (gradient > 0))
    gradient = np.where(held, 0.0, gradient)
    square = np.einsum("snp,snq->spq", slope * counted[..., None], slope)
    square *= ~held[:, :, None] & ~held[:, None, :]
    diagonal = np.einsum("spp->sp", square)
    size = np.maximum(diagonal, 1e-12 * diagonal.max(axis=1, keepdims=True)) + 1e-300
    square += np.eye(search.shape[1]) * (damping[:, None] * size + np.where(held, 1.0, 0.0))[:, None, :]
    scale = 1 / np.sqrt(np.maximum(np.einsum("spp->sp", square), 1e-300))
    scaled = square * scale[:, :, None] * scale[:, None, :]
    return np.linalg.solve(scaled, (gradient * scale)[..., None])[..., 0] * scale


def _loss(
    form: Form, search: np.ndarray, x: np.ndarray, y: np.ndarray, values: np.ndarray, weights: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(np.sqrt(weights) * (values - form.value(search, x, y)))
        bound = limit[:, None]
        inside = np.minimum(size, bound)
        total = (0.5 * inside**2 + np.where(size > bound, bound * (size - inside), 0.0)).sum(axis=1)
    return np.where(np.isfinite(total), total, np.inf)


def huber_weights(sizes: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """How much each run counts, [S, n]: 1 up to the limit [S], then falling as one over its distance."""
    return np.minimum(1.0, limit[:, None] / np.maximum(np.abs(sizes), 1e-300))


def best_of(solved: Solved, groups: int) -> Solved:
    """Of S = groups x starts problems, each group's best start."""
    loss = solved.loss.reshape(groups, -1)
    choice = loss.argmin(axis=1)
    search = solved.search.reshape(groups, loss.shape[1], -1)
    return Solved(search[np.arange(groups), choice], loss[np.arange(groups), choice])
