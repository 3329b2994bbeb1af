"""Bounds of agreement against scipy and by hand; thresholds that are chosen and still keep what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from data_tools.filters.agreement import Told, interval, loosest, lower_bound, rows_needed


def test_bounds_by_hand():
    """All of n right: the bound is alpha^(1/n), so 149 rows show 0.98 at 0.05 and 148 do not. Nothing right: 0."""
    assert lower_bound(10, 10, 0.05) == pytest.approx(0.05**0.1)
    assert lower_bound(149, 149, 0.05) >= 0.98 > lower_bound(148, 148, 0.05)
    assert lower_bound(0, 10, 0.05) == 0.0
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(5, 5)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(("right", "n"), [(1, 3), (7, 10), (196, 200), (1990, 2000), (49_000, 50_000)])
def test_bounds_equal_scipys(right, n):
    assert lower_bound(right, n, 0.05) == pytest.approx(stats.beta.ppf(0.05, right, n - right + 1), abs=1e-7)
    low, high = interval(right, n)
    told = stats.binomtest(right, n).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((told.low, told.high), abs=1e-7)


def test_the_fewest_rows_that_can_show_an_agreement():
    """At level 0.05 / 3: 0.98^n <= 0.01667 first holds for n = 203."""
    assert rows_needed(0.98, 0.05) == 203 == math.ceil(math.log(0.05 / 3) / math.log(0.98))


def world(rng, n):
    """Rows of chance c, poor with probability c squared: below a threshold t they are good at a rate of 1 - t^2 / 3."""
    chances = rng.random(n)
    return Told(chances, rng.random(n) < chances**2)


def test_a_chosen_threshold_keeps_its_promise():
    """The threshold that truly agrees at 0.9 is t = 0.548. Of 80 choices at most 5 % (and four standard errors) may lie beyond it."""
    truth = math.sqrt(0.3)
    rng = np.random.default_rng(0)
    chosen = [loosest(world(rng, 300), world(rng, 300), "below", 0.9, 0.05).threshold for _ in range(80)]
    found = [t for t in chosen if t is not None]
    assert sum(t > truth for t in found) <= 80 * 0.05 + 4 * math.sqrt(80 * 0.05 * 0.95)
    assert len(found) > 60
    assert 0.3 < np.median(found) < truth


def test_the_other_side_is_the_mirror_image():
    fitted, tested = (world(np.random.default_rng(seed), 400) for seed in (1, 2))
    below = loosest(fitted, tested, "below", 0.9, 0.05)
    above = loosest(*(Told(1 - t.chances, ~t.poor) for t in (fitted, tested)), "above", 0.9, 0.05)
    assert above.threshold == pytest.approx(1 - below.threshold)
    assert above[1:] == below[1:]


def test_where_nothing_agrees_the_nearest_is_told():
    rng = np.random.default_rng(0)
    fitted, tested = (Told(rng.random(300), rng.random(300) < 0.5) for _ in range(2))
    cut = loosest(fitted, tested, "below", 0.9, 0.05)
    assert cut.threshold is None
    assert 0 < cut.lower < 0.9
