"""The video proof runs through all its stages at a handful of films; the held-out splits are those of its budgets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_proof_runs_and_goes_on_where_it_was(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "proving" / "video.py"), "all", "--quick"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "video.json"), "--images", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    told = json.loads((tmp_path / "video.json").read_text())
    assert "SceneWorld" in told["title"]
    assert len(told["runs"]) == 3 + 25 + 18 + 3  # noise beyond the grid's own seed, grid, arms, splits of budgets that the grid lacks
    assert set(told["law"]["budgets"]) == {"36", "96"}
    assert (tmp_path / "video_curves.png").is_file()
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert json.loads((tmp_path / "video.json").read_text()) == told
