"""Curves and the page of rounds: round ticks, gaps, bands, everything escaped."""

import pytest

from data_tools.report.curves import Curve, curves, ticks_of
from data_tools.report.rounds import Round, Shown, charts, names, write_rounds

ROUNDS = [
    Round(0, {"a/x": 0.5, "a/x_low": 0.4, "a/x_high": 0.6, "a/words": 40.0, "a/rows": 9}),
    Round(1, {"a/x": 0.25, "a/x_low": 0.2, "a/x_high": 0.3, "a/words": 39.0, "a/rows": 9}, {"score": -1.5}, {"chosen": -0.5}, 12),
]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.2, 0.61, [0.2, 0.4, 0.6, 0.8]),
        (-3.1, 0.9, [-4, -3, -2, -1, 0, 1]),
        (46, 50, [46, 47, 48, 49, 50]),
        (2, 2, [1.8, 1.9, 2.0, 2.1, 2.2]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_ticks_are_round_and_hold_everything(low, high, ticks):
    assert ticks_of(low, high) == pytest.approx(ticks)


def test_what_is_missing_is_left_out_and_names_are_escaped():
    drawn = str(curves([Curve("new", "<b>", [None, 1.0, float("nan"), 2.0])], ["a", "b", "c", "<d>"], axis="x", name="n & m"))
    assert drawn.count("<circle") == 2
    assert "&lt;b&gt;: 2" in drawn
    assert "&lt;d&gt;" in drawn
    assert "n &amp; m" in drawn
    assert "area" not in drawn
    assert 'd="M"' not in str(curves([Curve("new", "empty", [None])], ["a"], axis="", name=""))


def test_a_band_where_every_bound_is_known():
    drawn = str(curves([Curve("new", "x", [1.0, 2.0], [0.5, 1.5], [1.5, 2.5])], ["a", "b"], axis="", name=""))
    assert drawn.count("area new") == 1


def test_figures_without_bounds_and_counts_each_have_a_chart():
    assert names(ROUNDS) == ["a/x", "a/words"]
    assert [chart.name for chart in charts(ROUNDS)] == ["a/x", "a/words", "Reward", "Drift of the pairs", "Drift from the start"]
    assert [chart.note for chart in charts(ROUNDS)][:2] == ["with its 95 % interval", ""]


def test_the_page(tmp_path):
    """Round 0 has neither feedback nor drift; hostile texts stay text; a long answer is cut."""
    shown = [Shown("What <i>?", ["<script>alert(1)</script>", None]), Shown("", ["x" * 5000, "\u202eback"])]
    write_rounds(tmp_path / "p.html", ROUNDS, shown, title="<T>", main="a/x", run={"model": "<m>", "judge": "j"})
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<title>&lt;T&gt;</title>" in page
    assert "&lt;m&gt;" in page
    assert "⟨U+202E⟩back" in page
    assert "x" * 700 not in page
    assert page.count(">no picture<") == 2
    assert "0.500" in page
    assert "0.250 <small>0.200 to 0.300</small>" in page
    assert not [path for path in tmp_path.iterdir() if path.name != "p.html"]
