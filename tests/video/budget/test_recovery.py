"""The recovery study, smaller: the optimum is found again where the noise allows it, refused where it does not, and the script runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts" / "proving"))

import video_law as study  # noqa: E402


def test_the_law_of_the_study_is_as_flat_as_the_earlier_one() -> None:
    """Loss at T M = 6000 for T = 90 / 120 / 180 / 30 / 480, as the earlier study printed it."""
    frames = np.array([90, 120, 180, 30, 480.0])
    assert study.additive(frames, 6000 / frames) == pytest.approx([0.6837, 0.6832, 0.6843, 0.6955, 0.6967], abs=5.1e-5)


@pytest.mark.parametrize(("design", "noise", "within"), [("grid", 0.0005, 8), ("sweeps", 0.0005, 10), ("grid", 0.002, 35)])
def test_the_optimum_is_found_again(design: str, noise: float, within: float) -> None:
    cell = study.Cell(design, study.designs()[design], noise, "additive")
    told = study.recover(cell, repeats=6, resamples=30)
    assert told["told"] == 6
    assert abs(told["frames"][1] - 120) < within
    assert told["held"] >= 4
    assert told["regret"] < 25 * noise**2 / 0.0005  # regret goes with the square of the error in ln T


def test_the_figures_on_disk_are_those_of_the_script() -> None:
    told = json.loads((ROOT / "docs/results/video_law.json").read_text())
    rows = {(row["design"], row["noise"]): row for row in told["recovery"]}
    assert set(rows) == set(study.EARLIER)
    low, middle, high = rows["grid", 0.0005]["frames"]
    assert 112 < low < middle < high < 128
    assert all(row["held"] >= 0.75 * row["told"] for (design, _), row in rows.items() if design != "one budget")
    refused = {row["truth"]: row["refused"] / told["repeats"] for row in told["refusals"]}
    assert refused["the additive law"] < 0.1
    assert min(refused[name] for name in ("frames make no difference", "tokens make no difference", "noise alone")) > 0.9
