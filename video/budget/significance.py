"""Whether a term is seen at all: the F test of a fit against a simpler one."""

from __future__ import annotations

import math


def f_test(gain: float, variance: float, dropped: int, freedom: float) -> float:
    """The chance of so great a gain by luck, when the simpler form is true.

    gain: how much the fuller fit lowers the weighted sum of squares. variance: of a run, known to `freedom` degrees. dropped: parameters
    that the simpler form lacks.
    """
    if variance <= 0:
        return 0.0 if gain > 0 else 1.0
    return f_tail(max(gain, 0.0) / dropped / variance, dropped, freedom)


def f_tail(value: float, above: float, below: float) -> float:
    """P(F > value) of Fisher's distribution with `above` and `below` degrees of freedom."""
    return beta_share(below / (below + above * value), below / 2, above / 2) if value > 0 else 1.0


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly below this place only
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    numerator, denominator = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = denominator
    for m in range(1, 300):
        change = 1.0
        for step in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            denominator = 1 / _away(1 + step * denominator, tiny)
            numerator = _away(1 + step / numerator, tiny)
            change = numerator * denominator
            value *= change
        if abs(change - 1) < 1e-14:
            break
    return value


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
