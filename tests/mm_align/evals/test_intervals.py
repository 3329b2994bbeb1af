"""Bootstrap intervals against numbers worked out by hand and against the normal law."""

import math

import numpy as np
import pytest

from mm_align.evals import bootstrap, paired_difference


def test_all_equal_has_no_width_and_one_row_is_itself():
    assert bootstrap([0.5] * 7) == (0.5, 0.5, 0.5)
    assert bootstrap([1.0]) == (1.0, 1.0, 1.0)


def test_a_large_share_follows_the_normal_law():
    """2,000 rows, 30 % right: 1.96 sqrt(0.3 * 0.7 / 2000) = 0.0201 on each side."""
    found = bootstrap([1.0] * 600 + [0.0] * 1400)
    assert found.mean == pytest.approx(0.3)
    assert found.high - 0.3 == pytest.approx(1.96 * math.sqrt(0.21 / 2000), rel=0.1)
    assert 0.3 - found.low == pytest.approx(1.96 * math.sqrt(0.21 / 2000), rel=0.1)


def test_two_rows_by_hand():
    """Values 0 and 1: draws (0,0), (0,1), (1,0), (1,1) give means 0, 1/2, 1/2, 1 with chance 1/4, 1/2, 1/4."""
    assert bootstrap([0.0, 1.0]) == (0.5, 0.0, 1.0)
    assert bootstrap([0.0, 1.0], level=0.4) == (0.5, 0.5, 0.5)


def test_rows_of_one_group_are_drawn_together():
    """40 groups of 50 equal rows know no more than 40 rows; the mean weights every row alike."""
    values = [float(g % 2) for g in range(40) for _ in range(50)]
    groups = [g for g in range(40) for _ in range(50)]
    assert bootstrap(values, groups) == bootstrap([float(g % 2) for g in range(40)])
    assert bootstrap([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]).mean == 0.75


def test_seeded():
    values = np.random.default_rng(0).random(50).tolist()
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_paired_sees_what_unpaired_does_not():
    """The second is right wherever the first is, and on 20 of 400 rows more: differences are 0 or 1, so the interval excludes 0."""
    first = [float(i % 2) for i in range(400)]
    second = [1.0 if i < 40 else value for i, value in enumerate(first)]
    found = paired_difference(second, first)
    assert found.mean == pytest.approx(20 / 400)
    assert 0 < found.low < found.mean < found.high
    assert bootstrap(first).high > bootstrap(second).low  # taken one by one they overlap


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])
    with pytest.raises(ValueError, match="2 values need a group each, got 1"):
        bootstrap([0.0, 1.0], ["a"])
    with pytest.raises(ValueError, match="same rows twice, got 1 and 2"):
        paired_difference([1.0], [1.0, 0.0])
