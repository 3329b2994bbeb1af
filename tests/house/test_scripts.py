"""Every script starts where users start it: `--help` from any folder, though some have the names of packages."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTED = [
    ROOT / "scripts" / name
    for name in (
        "bench/data.py",
        "bench/engines.py",
        "bench/evals.py",
        "bench/video.py",
        "bench/reducers.py",
        "bench/signals.py",
        "proving/video.py",
        "proving/video_law.py",
        "proving/rlaif.py",
        "proving/aitqe.py",
        "proving/quality_model.py",
        "zoo/quality_start.py",
        "zoo/scene_judge.py",
        "proving/tiny_lvlm.py",
        "proving/injections.py",
    )
]


@pytest.mark.parametrize("script", STARTED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_script_says_what_it_does(script, tmp_path):
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout
