"""Distributions of signals: the same in whatever order and parts rows come, and figures against the values themselves."""

import json
import random

import pytest

from data_tools.report.page import figure
from data_tools.report.signals import FREQUENT, SignalStats, two_digits


def rows(n=400):
    rng = random.Random(0)
    return [
        (
            caption := f"caption {min(int(rng.expovariate(0.1)), 50)}",
            {
                "image.width": rng.randrange(10, 4000),
                "text.noise": round(rng.random(), 4),
                "text.language": rng.choice(["en", "de", None]),
                "rights.opt_out": rng.choice([True, False]),
                "exact.sha256": f"{rng.random():.17f}",
                "exact.caption_copies": len(caption) * 3,
            },
        )
        for _ in range(n)
    ]


def stats_of(some):
    out = SignalStats()
    for caption, signals in some:
        out.add(caption, signals)
    return out


def test_parts_and_order_do_not_matter():
    every = rows()
    whole = json.dumps(stats_of(every).to_dict())
    shuffled = random.Random(1).sample(every, len(every))
    joined = SignalStats()
    for start in range(0, len(shuffled), 37):
        joined.merge(SignalStats.from_dict(json.loads(json.dumps(stats_of(shuffled[start : start + 37]).to_dict()))))
    assert json.dumps(joined.to_dict()) == whole
    assert len(whole) < 20_000


def test_figures_are_those_of_the_values():
    every = rows()
    told = stats_of(every).summary()
    widths = sorted(signals["image.width"] for _, signals in every)
    figures = told["signals"]["image.width"]
    assert (figures["min"], figures["max"], figures["known"]) == (widths[0], widths[-1], 400)
    assert figures["mean"] == pytest.approx(sum(widths) / 400)
    assert widths[199] * 0.9 < figures["median"] <= widths[199]
    assert sum(n for _, n in figures["histogram"]) == 400
    assert sum(told["signals"]["text.language"]["counts"].values()) == told["signals"]["text.language"]["known"] < 400
    assert set(told["signals"]["rights.opt_out"]["counts"]) == {"true", "false"}
    assert "counts" not in told["signals"]["exact.sha256"]


def test_the_most_frequent_captions_are_kept():
    out = stats_of([(f"c{i:03}", {"exact.caption_copies": i}) for i in range(100)])
    assert list(out.summary()["frequent_captions"].items())[:2] == [("c099", 99), ("c098", 98)]
    assert len(out.captions) == FREQUENT


@pytest.mark.parametrize(("units", "bin"), [(0, 0), (99, 99), (100, 100), (109, 100), (12345, 12000), (-12345, -12000)])
def test_bins_have_two_digits(units, bin):
    assert two_digits(units) == bin


def test_numbers_that_are_none_are_known_and_not_counted():
    out = stats_of([("", {"a": float("nan")}), ("", {"a": float("inf")}), ("", {"a": 2.5})])
    assert out.summary()["signals"]["a"]["known"] == 3
    assert out.summary()["signals"]["a"]["max"] == 2.5


@pytest.mark.parametrize(("value", "shown"), [(0.226, "0.226"), (13.4, "13.4"), (999.96, "1000"), (17930.4, "17,930"), (-2100, "-2,100")])
def test_large_figures_are_written_out(value, shown):
    assert figure(value) == shown
