"""How far two deciders agree, with a bound that holds: Clopper-Pearson, and thresholds whose bound survives their being chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

GRID = tuple(k / 40 for k in range(1, 41))  # shares of rows that a threshold may decide
WALKS = 3  # to looser thresholds, each from a start of its own
Side = Literal["below", "above"]


def lower_bound(right: int, n: int, alpha: float) -> float:
    """The Clopper-Pearson bound: the least rate at which `right` or more successes in `n` trials have a chance of `alpha`; 0 of nothing."""
    if right == 0:
        return 0.0
    chance = _at_least(right, n)
    return _bisect(lambda rate: chance(rate) < alpha)


def interval(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval of a rate; (0, 1) of nothing."""
    tail = (1 - confidence) / 2
    return (lower_bound(right, n, tail), 1 - lower_bound(n - right, n, tail)) if n else (0.0, 1.0)


def rows_needed(agreement: float, alpha: float) -> int:
    """The fewest rows that can show an agreement: all of them agree, and the bound at a walk's level reaches it."""
    return math.ceil(math.log(alpha / WALKS) / math.log(agreement))


class Cut(NamedTuple):
    """A threshold and what it did on the rows that it was tested on. `threshold` None: none was shown to agree as asked; `right`, `n` and
    `lower` are then those of the one that came nearest."""

    threshold: float | None
    right: int
    n: int
    lower: float


class Told(NamedTuple):
    """Rows with the chance of being poor that was worked out, and whether they are: float64 [N], bool [N]."""

    chances: np.ndarray
    poor: np.ndarray


def loosest(fitted: Told, tested: Told, side: Side, agreement: float, alpha: float) -> Cut:
    """The threshold that decides most of the rows `tested` and agrees as asked, with confidence 1 - alpha.

    fitted: other rows, by which the candidates and the starts are chosen. side "below": rows at or below the threshold are called good;
    "above": at or above it, poor. From each of `WALKS` starts looser thresholds are tried until one's bound misses, at level alpha / WALKS:
    fixed sequence testing with several starts, so that the bound holds though the threshold was chosen (arXiv 2110.01052).
    """
    level = alpha / WALKS
    thresholds = [float(np.quantile(fitted.chances, q if side == "below" else 1 - q)) for q in GRID]
    least = rows_needed(agreement, alpha)
    cuts = [_test(threshold, tested, side, level) for threshold in thresholds]
    starts = _starts([_test(threshold, fitted, side, level) for threshold in thresholds], [cut.n >= least for cut in cuts], agreement)
    passed = [i for start in starts for i in _walk(cuts, start, agreement)]
    return cuts[max(passed)] if passed else max(cuts, key=lambda cut: cut.lower)._replace(threshold=None)


def _starts(fitted: Sequence[Cut], enough: Sequence[bool], agreement: float) -> set[int]:
    """The strictest threshold with rows enough, the loosest that looks right on the rows fitted, and one between.

    No verdict on a row tested has a say in them.
    """
    able = [i for i, one in enumerate(enough) if one]
    right = [i for i in able if fitted[i].lower >= agreement]
    return {able[0], (able[0] + max(right)) // 2, max(right)} if right else {*able[:1]}


def _walk(cuts: Sequence[Cut], start: int, agreement: float) -> list[int]:
    passed = []
    for i in range(start, len(cuts)):
        if cuts[i].lower < agreement:
            break
        passed.append(i)
    return passed


def _test(threshold: float, told: Told, side: Side, level: float) -> Cut:
    decided = told.chances <= threshold if side == "below" else told.chances >= threshold
    n = int(decided.sum())
    right = int((decided & (told.poor if side == "above" else ~told.poor)).sum())
    return Cut(threshold, right, n, lower_bound(right, n, level))


def _at_least(right: int, n: int) -> Callable[[float], float]:
    """The chance of `right` or more successes in n trials, as a function of the rate."""
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # logarithms
    k = np.arange(right, n + 1)
    ways = factorial[n] - factorial[k] - factorial[n - k]
    return lambda rate: float(np.exp(ways + k * math.log(rate) + (n - k) * math.log1p(-rate)).sum())


def _bisect(too_low: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return low
