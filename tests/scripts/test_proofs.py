"""The proving script through its door, and (slow) the card's figures and the flat memory measured again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "mm_align/zoo/tiny-aitqe/figures.json"


def run(script: str, *words: str) -> str:
    done = subprocess.run([sys.executable, str(ROOT / script), *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_proof_runs_on_any_model_and_scenes(tmp_path):
    from mm_align.cli import main

    assert main(["scenes", "make", "--n", "40", "--seed", "1", "--split", "validation", "--out", str(tmp_path / "scenes")]) == 0
    told = json.loads(run("scripts/proving/tiny_aitqe.py", "--model", "tiny-aitqe", "--data", str(tmp_path / "scenes"), "--answers", "40"))
    assert "SceneWorld" in told["title"]
    assert told["decision"]["rows"] == told["answer"]["rows"] == 40


def test_what_a_cascade_spares_is_measured_at_a_handful_of_rows(tmp_path):
    """64 pairs teach the encoder nothing, so at most obvious rows are spared; the table has a line for each agreement and set of stages."""
    sizes = ["--rows", "48", "--calibration", "40", "--pairs", "64", "--steps", "2", "--agreements", "0.6", "--without"]
    told = run("scripts/proving/cascade.py", "--work", str(tmp_path), *sizes)
    table = [line.split(" | ") for line in told.splitlines() if line.startswith("| 0.6")]
    assert [row[1] for row in table] == ["signals, similarity", "signals"]
    assert all(row[4].split()[1:3] == ["of", "48"] for row in table)


@pytest.mark.slow
def test_the_cards_figures_can_be_measured_again():
    """Same seeds, same weights; other machines round differently, which moves a few decisions at most."""
    measured, written = json.loads(run("scripts/proving/tiny_aitqe.py")), json.loads(FIGURES.read_text())
    assert measured["model"] == written["model"]
    for part in ("auroc", "auroc_blind"):
        assert measured["decision"][part] == pytest.approx(written["decision"][part], abs=0.01)
    for name in ("valid_json", "severity_spearman", "rewrite_f1", "rewrite_hallucinating"):
        assert measured["answer"][name] == pytest.approx(written["answer"][name], abs=0.01)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input():
    last = run("scripts/bench/enhance.py", "--only", "memory").splitlines()[-1]
    assert float(last.rsplit(":", 1)[1]) <= 1.1
