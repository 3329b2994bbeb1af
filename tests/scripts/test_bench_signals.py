"""The bench of signals through its door, on few hashes and small pictures."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCH)])  # last: a neighbour there is called video.py
    spec = importlib.util.spec_from_file_location("bench_signals", BENCH / "signals.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SIDES", ((300, 340),))
    yield module
    sys.modules.pop("data", None)


def test_both_figures_are_told(bench, capsys):
    bench.main(["--counts", "2000", "--pictures", "3"])
    told = capsys.readouterr().out
    assert re.search(r"index: 2,000 random hashes at radius 4 in \d\.\d\d CPU s", told)
    assert re.search(r"sharpness: sides 300 to 340, 3 pictures: lower by -?\d+\.?\d* \[.*\] % in a scaled decode", told)
