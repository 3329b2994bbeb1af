"""Where the law is least under a budget: along the frontier of any costs, with its interval; of the simplest case in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .cost import Cost
from .law import Law

REACH = 4.0  # how far beyond what was run, as a factor, an optimum may lie and still be called one
SHARE = 0.9  # of the resamples that must have an optimum within reach
GRID = 161
GOLDEN = (math.sqrt(5) - 1) / 2


class Limit(NamedTuple):
    """A cost and the most that may be spent of it."""

    cost: Cost
    most: float


class Refused(ValueError):
    """The law does not say where the optimum is; the message says why."""


class Interval(NamedTuple):
    """Bounds of the middle 90 % of the resamples."""

    low: float
    high: float


class Optimum(NamedTuple):
    """Frames and tokens a frame as real numbers, their intervals, the metric there, and the share of resamples with an optimum in reach."""

    frames: float
    tokens: float
    frames_interval: Interval
    tokens_interval: Interval
    value: float
    value_interval: Interval
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(value) if isinstance(value, Interval) else value for name, value in self._asdict().items()}


def closed_form(parameters: dict[str, float], budget: float) -> tuple[float, float]:
    """T*, M* of E + A T^-a + B M^-b at T M = budget.

    The elasticities balance, a A T^-a = b B M^-b, so T* = (a A / b B)^(1 / (a + b)) budget^(b / (a + b)) and M* = budget / T*.
    """
    big_a, a, big_b, b = (parameters[name] for name in ("A", "a", "B", "b"))
    frames = (a * big_a / (b * big_b)) ** (1 / (a + b)) * budget ** (b / (a + b))
    return frames, budget / frames


def frontier(limits: Sequence[Limit], tokens: Any) -> np.ndarray:
    """The most frames of `tokens` that every limit allows, as real numbers; below 0 where none does."""
    return np.min([limit.cost.most_frames(tokens, limit.most) for limit in limits], axis=0)


def optimum(law: Law, limits: Sequence[Limit]) -> Optimum:
    """The best real T and M on the frontier of `limits`, within reach of what was run, and the interval of the resamples.

    Raises Refused: the law's own reason, nothing affordable within reach, or an optimum that the runs do not place.
    """
    if law.refusal:
        raise Refused(law.refusal)
    log_m = _span(law, limits)
    tokens, frames = np.exp(log_m), frontier(limits, np.exp(log_m))
    best, inside = _least(log_m, law.loss(frames, tokens)[None], lambda m: law.loss(frontier(limits, m), m))
    if not inside[0]:
        at = math.exp(best[0])
        raise Refused(
            f"{law.metric} still gets better at the end of what can be said, {float(frontier(limits, at)):.0f} frames of {at:.0f} tokens: "
            f"the runs had {law.covered.told()}; run settings out there"
        )
    places, within = _least(log_m, law.losses(frames, tokens), lambda m: law.own_losses(frontier(limits, m), m))
    share = float(within.mean()) if len(within) else 1.0
    if share < SHARE:
        raise Refused(
            f"the runs do not place an optimum: {1 - share:.0%} of the resamples have none within {REACH:g} times what was run; "
            "more runs, or runs with less noise, are needed"
        )
    return _told(law, limits, math.exp(best[0]), np.exp(places), share)


def _span(law: Law, limits: Sequence[Limit]) -> np.ndarray:
    """Logarithms of tokens a frame, [GRID], for which both they and the frames that can be paid for are within reach."""
    reach = REACH if law.shape.extrapolates else 1.0
    (least_t, most_t), (least_m, most_m) = law.covered.frames, law.covered.tokens
    log_m = np.linspace(math.log(max(1.0, least_m / reach)), math.log(most_m * reach), 20 * GRID)
    frames = frontier(limits, np.exp(log_m))
    within = (frames >= max(1.0, least_t / reach)) & (frames <= most_t * reach)
    within[within] = law.holds_at(frames[within], np.exp(log_m[within]))
    usable = log_m[within]
    if len(usable) < 3:
        limit = " and ".join(f"{limit.most:g} {limit.cost.unit}" for limit in limits)
        budget = f", all of T x M = {law.covered.budget:g}" if law.shape.one_budget else ""
        raise Refused(f"{limit} is out of reach of the runs, which had {law.covered.told()}{budget}")
    return np.linspace(usable[0], usable[-1], GRID)


def _least(log_m: np.ndarray, losses: np.ndarray, along: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """ln M of the least of each surface's losses [S, GRID], and whether it lies inside of the grid.

    along: losses [S] at M [S], one for each surface, by which the place is refined between its neighbours (golden section).
    """
    at = losses.argmin(axis=1)
    inside = (at > 0) & (at < len(log_m) - 1)
    low, high = log_m[np.maximum(at - 1, 0)], log_m[np.minimum(at + 1, len(log_m) - 1)]
    for _ in range(40 if len(at) else 0):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        lower = along(np.exp(left)) < along(np.exp(right))
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    return np.where(inside, (low + high) / 2, log_m[at]), inside


def _told(law: Law, limits: Sequence[Limit], tokens: float, resampled: np.ndarray, share: float) -> Optimum:
    frames = float(frontier(limits, tokens))
    if not len(resampled):
        resampled = np.array([tokens])
        values = law.value(frames, tokens)[None]
    else:
        values = law.sign * law.own_losses(frontier(limits, resampled), resampled)
    return Optimum(
        frames,
        tokens,
        _interval(frontier(limits, resampled)),
        _interval(resampled),
        float(law.value(frames, tokens)),
        _interval(values),
        share,
    )


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.05, 0.95])
    return Interval(float(low), float(high))
