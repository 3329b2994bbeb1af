"""Tables of runs from files: columns found or named, rows that cannot be used left out with a reason; designs of experiments."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video.budget import Runs, fit, pooled, read_runs, suggest
from video.budget.design import OFF, Setting
from video.budget.forms import FORMS

SIZES = pooled(27)[:-1]


def test_a_csv_is_read_by_its_usual_names(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("T,M,loss,weight,seconds,seed\n8,49,0.71,2,1.5,0\n\n16,49,0.70,,,1\n")
    runs = read_runs(tmp_path / "runs.csv")
    assert runs.frames.tolist() == [8, 16]
    assert runs.weights.tolist() == [2, 1]
    assert runs.seconds[0] == 1.5
    assert np.isnan(runs.seconds[1])
    assert runs.metric == "loss"


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".tsv"])
def test_other_files_hold_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [{"frames": 8, "tokens": 4, "acc": 0.5}, {"frames": 16, "tokens": 9, "acc": 0.6}]
    texts = {
        ".json": json.dumps(rows),
        ".jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        ".tsv": "frames\ttokens\tacc\n8\t4\t0.5\n16\t9\t0.6\n",
    }
    (tmp_path / f"runs{suffix}").write_text(texts[suffix])
    runs = read_runs(tmp_path / f"runs{suffix}", metric="acc", better="higher")
    assert runs.values.tolist() == [0.5, 0.6]
    assert runs.sign == -1


def test_runs_that_cannot_be_used_are_left_out_with_their_reason(tmp_path: Path, laws: Any) -> None:
    frames, tokens = laws.grid()
    lines = [f"{t:g},{m:g},{loss}" for t, m, loss in zip(frames, tokens, laws.true_loss(frames, tokens), strict=True)]
    lines[3:3] = ["8,4,nan", "8,,0.7", "0,4,0.7", "8,4,diverged"]
    (tmp_path / "runs.csv").write_text("frames,tokens,loss\n" + "\n".join(lines))
    runs = read_runs(tmp_path / "runs.csv")
    assert len(runs) == 25
    assert [line.split(":")[0] for line in runs.left_out] == ["run 4", "run 5", "run 6", "run 7"]
    assert "'nan' is not finite" in runs.left_out[0]
    assert "tokens '' is no number" in runs.left_out[1]
    assert "frames 0: at least 1" in runs.left_out[2]
    assert any(line.startswith("left out: run 4") for line in fit(runs, "additive", resamples=2).warnings)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("runs.csv", "", "the table of runs is empty"),
        ("runs.csv", "frames,tokens,perplexity\n8,4,2\n", "no column for the metric .*the table has frames, tokens, perplexity"),
        ("runs.csv", "frames,tokens,loss\n8,4,oops\n", "no run of the table can be used; run 1: metric 'oops' is no number"),
        ("runs.json", "{", "is no JSON"),
        ("runs.json", "{}", "should hold a list of objects"),
        ("runs.xlsx", "", "a table of runs is .csv, .tsv, .json or .jsonl"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_runs(tmp_path / name)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("frames,tokens,loss\n8,4,0.5\n")
    with pytest.raises(ValueError, match="no column 'mme' for the metric; the table has frames, tokens, loss"):
        read_runs(tmp_path / "runs.csv", metric="mme")


def test_repeats_tell_the_noise_by_hand() -> None:
    """Settings with values (1, 3) and (2, 2, 5): squares about their means 2 and 9 - 3 = 6, so (2 + 6) / (1 + 2)."""
    runs = Runs(np.array([8, 8, 16, 16, 16, 32]), np.full(6, 4), np.array([1, 3, 2, 2, 5, 9.0]))
    assert runs.repeat_noise() == pytest.approx(((8 / 3) ** 0.5, 3))
    assert runs.settings.tolist() == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "parts",
    [
        {"frames": [0.5], "tokens": [1], "values": [1]},
        {"frames": [8], "tokens": [1, 2], "values": [1]},
        {"frames": [8], "tokens": [1], "values": [np.inf]},
        {"frames": [8], "tokens": [1], "values": [1], "weights": [0]},
        {"frames": [8], "tokens": [1], "values": [1], "better": "more"},
    ],
)
def test_runs_check_themselves(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Runs(**parts)


# Designs


@pytest.mark.parametrize("runs", [9, 12, 16, 19, 25, 36])
@pytest.mark.parametrize("kind", ["grid", "sweeps"])
def test_a_design_fits_its_number_and_can_carry_the_law(runs: int, kind: Any) -> None:
    chosen, settings = suggest(runs, (8, 128), SIZES, kind=kind)
    assert chosen == kind
    assert len(settings) == len(set(settings)) <= runs
    assert len(settings) >= runs - 3 or kind == "grid"
    assert {one.frames for one in settings} >= {8, 128}
    assert {one.tokens for one in settings} >= {1, 196}
    x, y = np.log(np.array(settings, float)).T
    assert not FORMS["additive"].lacking(x, y)
    if runs >= 12:
        assert not FORMS["interaction"].lacking(x, y)


def test_sweeps_have_three_settings_off_them() -> None:
    _, settings = suggest(19, (8, 128), SIZES, kind="sweeps")
    shared_m, shared_t = (max(set(values), key=values.count) for values in ([s.tokens for s in settings], [s.frames for s in settings]))
    assert sum(one.tokens != shared_m and one.frames != shared_t for one in settings) == OFF


def test_one_budget_is_split_for_few_runs() -> None:
    kind, settings = suggest(6, (8, 512), SIZES, budget=6000)
    assert kind == "budget"
    assert all(0.93 * 6000 <= one.frames * one.tokens <= 6000 for one in settings)
    assert Setting(122, 49) in settings
    x, y = np.log(np.array(settings, float)).T
    assert not FORMS["iso_parabola"].lacking(x, y)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, (8, 128), SIZES), "at least 5 runs, got 4"),
        ((6, (8, 128), SIZES), "needs the budget"),
        ((25, (8, 8), SIZES), "from a least to a greater most"),
        ((25, (8, 128), [49]), "only 1 different numbers of tokens a frame"),
    ],
)
def test_a_design_that_cannot_be_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        suggest(*arguments)
    with pytest.raises(ValueError, match="leaves 1 splits"):
        suggest(6, (100, 128), SIZES, budget=6000)
