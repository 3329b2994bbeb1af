"""The RLAIF-V proof runs through all its stages at a handful of pictures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_proof_runs_and_goes_on_where_it_was(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "proving" / "rlaif.py"), "all", "--quick", "--seeds", "0"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "rlaif.json"), "--images", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    told = json.loads((tmp_path / "rlaif.json").read_text())
    assert {"start", "rounds", "cut", "big", "self", "one_model", "two_models", "whole"} <= set(told["models"])
    assert "SceneWorld" in told["title"]
    assert told["best_of"]["start: reward"][0]["n"] == 1
    assert (tmp_path / "rlaif_rounds.png").is_file()
    again = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    seen = json.loads((tmp_path / "rlaif.json").read_text())
    assert seen | {"cpu_minutes": None} == told | {"cpu_minutes": None}  # looking at finished runs takes a moment, too
    assert "finished" in again.stdout + again.stderr or "done" in again.stdout + again.stderr
