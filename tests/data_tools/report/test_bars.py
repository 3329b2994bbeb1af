"""Horizontal bars: lengths on the axis, whiskers where an interval is known, everything escaped."""

import re

from data_tools.report.bars import Bar, Group, bars


def widths(drawn: str) -> list[float]:
    return [float(found) for found in re.findall(r'<rect class="\w+" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', drawn)]


def test_lengths_are_in_proportion_and_missing_values_leave_their_place_empty():
    """The axis ends at 1, its 344 - 118 - 8 = 218 px: a bar of 0.5 is 109 px long."""
    drawn = str(
        bars(
            [Group("a", [Bar("m", 0.5), Bar("n", None)]), Group("b", [Bar("m", 1.0), Bar("n", 0.25), Bar("o", float("nan"))])],
            axis="x",
            name="n",
        )
    )
    assert widths(drawn) == [109.0, 218.0, 54.5]
    assert "<line" in drawn
    assert drawn.count("<title>m: ") == 2


def test_an_interval_is_a_whisker_and_is_told():
    """The axis ends at 0.8: 0.25 lies at 118 + 218 * 0.25 / 0.8."""
    drawn = str(bars([Group("a", [Bar("m", 0.5, 0.25, 0.75)])], axis="", name=""))
    assert "m: 0.5 [0.25, 0.75]" in drawn
    assert 'x1="186.1" x2="322.4"' in drawn


def test_names_are_escaped_and_long_ones_cut():
    drawn = str(bars([Group("<b>" + "x" * 40, [Bar("<m>", 0.5)])], axis="<a>", name="<n>"))
    assert "<b>" not in drawn
    assert "&lt;b&gt;xxxxxxxxxxxxxx…" in drawn
    assert "&lt;m&gt;: 0.5" in drawn
