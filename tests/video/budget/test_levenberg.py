"""Many least-squares problems at once: the same minima as scipy's, stray runs bent away from, bounds kept; F tails as scipy's."""

import itertools
from typing import Any

import numpy as np
import pytest

from video.budget.forms import FORMS
from video.budget.levenberg import best_of, huber_weights, solve
from video.budget.significance import beta_share, f_tail, f_test

ADDITIVE = FORMS["additive"]


def problem(laws: Any, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    runs = laws.noisy(noise, seed)
    return np.log(runs.frames) - 3, np.log(runs.tokens) - 3, runs.values


def test_minima_are_those_of_scipy(laws: Any) -> None:
    from scipy.optimize import least_squares

    x, y, values = problem(laws, 0.003)
    starts = ADDITIVE.starts(x, y, values, np.ones(25))
    found = best_of(solve(ADDITIVE, starts, x, y, values, np.ones(25), ADDITIVE.bounds(values)), 1)
    theirs = min(
        (least_squares(lambda p: ADDITIVE.value(p[None], x, y)[0] - values, start, xtol=1e-14, ftol=1e-14) for start in starts),
        key=lambda one: one.cost,
    )
    assert found.loss[0] == pytest.approx(theirs.cost, rel=1e-8)
    assert ADDITIVE.value(found.search, x, y)[0] == pytest.approx(ADDITIVE.value(theirs.x[None], x, y)[0], abs=1e-6)


def test_hubers_minimum_is_that_of_scipy(laws: Any) -> None:
    from scipy.optimize import least_squares

    x, y, values = problem(laws, 0.003)
    values[7] += 0.05
    starts = ADDITIVE.starts(x, y, values, np.ones(25))
    found = best_of(solve(ADDITIVE, starts, x, y, values, np.ones(25), ADDITIVE.bounds(values), np.array(0.004)), 1)
    theirs = least_squares(
        lambda p: ADDITIVE.value(p[None], x, y)[0] - values, found.search[0], loss="huber", f_scale=0.004, xtol=1e-14, ftol=1e-14
    )
    assert found.loss[0] == pytest.approx(theirs.cost, rel=1e-7)


def test_weights_are_repeats(laws: Any) -> None:
    """A run of weight 3 counts as three of the same."""
    x, y, values = problem(laws, 0.003)
    bounds, starts = ADDITIVE.bounds(values), ADDITIVE.starts(x, y, values, np.ones(25))
    weights = np.where(np.arange(25) == 4, 3.0, 1.0)
    once = best_of(solve(ADDITIVE, starts, x, y, values, weights, bounds), 1)
    thrice = np.r_[np.arange(25), 4, 4]
    thrice_found = best_of(solve(ADDITIVE, starts, x[thrice], y[thrice], values[thrice], np.ones(27), bounds), 1)
    assert once.search[0] == pytest.approx(thrice_found.search[0], rel=1e-4)


def test_problems_do_not_see_each_other(laws: Any) -> None:
    (x, y, first), (_, _, second) = problem(laws, 0.003, 1), problem(laws, 0.003, 2)
    starts, bounds = ADDITIVE.starts(x, y, first, np.ones(25))[:3], ADDITIVE.bounds(first)
    both = solve(ADDITIVE, np.tile(starts, (2, 1)), x, y, np.repeat([first, second], 3, axis=0), np.ones(25), bounds)
    alone = [solve(ADDITIVE, starts, x, y, values, np.ones(25), bounds) for values in (first, second)]
    assert both.loss == pytest.approx(np.concatenate([one.loss for one in alone]), rel=1e-9)
    assert best_of(both, 2).loss == pytest.approx([one.loss.min() for one in alone], rel=1e-9)


def test_a_flat_table_ends_within_the_bounds() -> None:
    x, y = np.log(np.tile([8.0, 16, 32, 64], 4)), np.log(np.repeat([1.0, 4, 9, 49], 4))
    values = 0.7 + 1e-3 * np.random.default_rng(0).standard_normal(16)
    bounds = ADDITIVE.bounds(values)
    found = solve(ADDITIVE, ADDITIVE.starts(x, y, values, np.ones(16)), x, y, values, np.ones(16), bounds)
    assert np.isfinite(found.loss).all()
    assert ((found.search >= bounds[0]) & (found.search <= bounds[1])).all()


def test_huber_weights_by_hand() -> None:
    """Within the limit of 2: 1. At 4 and -8: 2 / 4 and 2 / 8."""
    assert huber_weights(np.array([[0.0, 1.9, 4.0, -8.0]]), np.array([2.0]))[0] == pytest.approx([1, 1, 0.5, 0.25])


def test_tails_of_f_are_scipys() -> None:
    from scipy.special import betainc
    from scipy.stats import f

    for value, above, below in itertools.product((0.01, 0.7, 1.0, 3.3, 40.0), (1, 2, 3, 7), (1, 4, 20, 90)):
        assert f_tail(value, above, below) == pytest.approx(f.sf(value, above, below), rel=1e-9)
    assert beta_share(0.3, 2.5, 0.5) == pytest.approx(betainc(2.5, 0.5, 0.3), rel=1e-12)
    assert f_tail(0.0, 2, 5) == 1.0


def test_the_f_test_by_hand() -> None:
    """Squares fall by 2 for 2 parameters, a run's variance is 1 / 10 with 10 runs to spare: F = (2 / 2) / (1 / 10) = 10; with 2 above,
    P = (1 + 2 * 10 / 10)^-5 = 3^-5."""
    assert f_test(2.0, 0.1, 2, 10) == pytest.approx(3**-5)
    assert f_test(0.0, 0.1, 2, 10) == f_test(-1e-12, 0.1, 2, 10) == 1.0
    assert f_test(1.0, 0.0, 2, 10) == 0.0


def test_a_known_variance_is_chi_squared() -> None:
    from scipy.stats import chi2

    assert f_test(6.0, 1.0, 2, 10_000) == pytest.approx(chi2.sf(6.0, 2), rel=2e-3)
