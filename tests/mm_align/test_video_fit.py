"""`mmalign video fit` through the command line: law, page and plot, designs, what is refused and what is said of it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm_align.cli import main


def write_runs(path: Path, noise: float = 0.001, flat: bool = False, more: bool = False, seed: int = 0) -> Path:
    """The 5 x 5 grid of a law with its optimum at 120 x 50 for T M = 6000; `more`: accuracy in place of loss."""
    draw = np.random.default_rng(seed)
    rows = []
    for t in (8, 16, 32, 64, 128):
        for m in (4, 9, 25, 49, 196):
            loss = 0.6 + 0.2500 * t**-0.35 * (0 if flat else 1) + 0.2117 * m**-0.45 + noise * draw.standard_normal()
            rows.append(f"{t},{m},{1 - loss if more else loss:.6f},{0.2 + 0.02 * t + 1e-4 * t * m:.4f}")
    path.write_text(f"frames,tokens,{'acc' if more else 'loss'},seconds\n" + "\n".join(rows) + "\n")
    return path


def test_law_page_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    runs, out = write_runs(tmp_path / "runs.csv"), tmp_path / "law.json"
    assert main(["video", "fit", str(runs), "--out", str(out), "--form", "additive", "--resamples", "40"]) == 0
    told = capsys.readouterr().out
    assert "loss = E + A T^-a + B M^-b: E 0.6" in told
    assert "form additive of 25 runs" in told
    assert "window 25088: " in told
    law = json.loads(out.read_text())
    assert law["parameters"]["a"] == pytest.approx(0.35, abs=0.08)
    assert law["seconds"]["per_frame"] == pytest.approx(0.02, rel=0.05)
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "law.html").read_text()
    assert "data:image/png;base64," in page
    assert "E + A T^-a + B M^-b" in page
    assert page.count("<tr>") >= 25 + 9 + 5 + 1


def test_the_same_again_is_nothing_and_another_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], reported: Any) -> None:
    runs, out = write_runs(tmp_path / "runs.csv"), tmp_path / "law.json"
    command = ["video", "fit", str(runs), "--out", str(out), "--form", "additive", "--resamples", "20", "--no-plot"]
    told = reported(*command)
    first = out.read_text()
    assert reported(*command) == told == json.loads(first)
    assert main(command) == 0
    assert "already holds this law" in capsys.readouterr().out
    write_runs(runs, seed=1)
    assert main(command) == 2
    assert "holds a law of other runs; --overwrite replaces it" in capsys.readouterr().err
    assert out.read_text() == first
    assert main([*command, "--overwrite"]) == 0
    assert out.read_text() != first
    assert not (tmp_path / "law.png").exists()
    (tmp_path / "notes.json").write_text("{}")
    assert main([*command[:4], str(tmp_path / "notes.json"), "--overwrite"]) == 2
    assert "was not made by `mmalign video fit`" in capsys.readouterr().err


def test_an_axis_without_effect_is_a_law_without_an_optimum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = write_runs(tmp_path / "runs.csv", flat=True), tmp_path / "law.json"
    assert main(["video", "fit", str(runs), "--out", str(out), "--form", "additive", "--resamples", "20"]) == 0
    assert "no optimum: the effect of frames does not show above the noise" in capsys.readouterr().out
    assert "No optimum can be told" in (tmp_path / "law.html").read_text()
    assert main(["video", "plan", "--window", "6000", "--law", str(out)]) == 2
    said = capsys.readouterr().err
    assert "the effect of frames does not show" in said
    assert "without --law the plan is the rule of thumb's" in said


def test_accuracy_is_the_other_way_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = write_runs(tmp_path / "runs.csv", more=True), tmp_path / "law.json"
    words = ["--metric", "acc", "--better", "higher", "--form", "additive", "--resamples", "20", "--no-plot"]
    assert main(["video", "fit", str(runs), "--out", str(out), *words]) == 0
    assert "acc = -(E + A T^-a + B M^-b): E -0.39" in capsys.readouterr().out
    assert main(["video", "plan", "--window", "6000", "--law", str(out), "--text-tokens", "0"]) == 0
    told = capsys.readouterr().out
    assert "one frame more +" in told
    assert "of 49 tokens" in told


def test_without_matplotlib_there_is_no_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    runs, out = write_runs(tmp_path / "runs.csv"), tmp_path / "law.json"
    assert main(["video", "fit", str(runs), "--out", str(out), "--form", "additive", "--resamples", "20"]) == 0
    assert "matplotlib is not installed" in capsys.readouterr().err
    assert "data:image" not in (tmp_path / "law.html").read_text()


@pytest.mark.parametrize("design", [["--design", "25"], ["--design", "19", "--shape", "sweeps"]])
def test_a_design_is_filled_in_and_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str], reported: Any, design: list[str]) -> None:
    table = tmp_path / "runs.csv"
    assert main(["video", "fit", *design, "--out", str(table)]) == 0
    assert "train them, fill in the loss" in capsys.readouterr().out
    head, *rows = table.read_text().split()
    told = reported("video", "fit", *design, "--out", table, "--overwrite")
    assert [f"{one['frames']},{one['tokens']}," for one in told["settings"]] == rows
    assert head == "frames,tokens,loss"
    filled = [
        f"{row}{0.6 + 0.25 * float(row.split(',')[0]) ** -0.35 + 0.2 * float(row.split(',')[1]) ** -0.45 + 1e-3 * (-1) ** i:.5f}"
        for i, row in enumerate(rows)
    ]
    assert main(["video", "fit", *design, "--out", str(table)]) == 2
    table.write_text("\n".join([head, *filled]))
    assert main(["video", "fit", str(table), "--out", str(tmp_path / "law.json"), "--resamples", "20", "--no-plot"]) == 0
    assert "form additive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "law.json"], "no table of runs"),
        (["absent.csv", "--out", "law.json"], "cannot use the runs absent.csv"),
        (["few.csv", "--out", "law.json"], "few.csv: no law can be fitted to 3 runs of 3 settings"),
        (["bad.csv", "--out", "law.json"], "no column for the metric"),
        (["runs.csv", "--out", "law.csv"], "--out law.csv should name a .json file"),
        (["runs.csv", "--out", "nowhere/law.json"], "there is no folder nowhere"),
        (["runs.csv", "--out", "law.json", "--weight", "w"], "no column 'w' for the weight"),
        (["runs.csv", "--out", "design.csv", "--design", "9"], "takes no table of runs"),
        (["--out", "design.csv", "--design", "3"], "at least 5 runs, got 3"),
        (["runs.csv", "--out", "law.json", "--noise", "-1"], "greater than 0"),
    ],
)
def test_mistakes_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "runs.csv")
    (tmp_path / "few.csv").write_text("T,M,loss\n8,4,0.9\n16,9,0.8\n32,49,0.7\n")
    (tmp_path / "bad.csv").write_text("T,M,ppl\n8,4,0.9\n")
    assert main(["video", "fit", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "law.json").exists()
