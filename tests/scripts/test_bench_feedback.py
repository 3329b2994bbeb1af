"""The bench of feedback through its door, with small models and one round: every way gives the same answers."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_feedback", ROOT / "scripts/bench/feedback.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_feedback", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TEXT", module.TEXT | {"vocab_size": 2048, "num_hidden_layers": 1})
    monkeypatch.setattr(module, "TOWER", module.TOWER | {"num_hidden_layers": 1})
    for name, value in {"QUESTIONS": 3, "CANDIDATES": 2, "TOKENS": 3}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3"])
def test_every_way_gives_the_same(bench, family, capsys):
    bench.main(["--family", family, "--rounds", "1"])
    told = capsys.readouterr().out
    assert float(re.search(r"largest difference of a log-probability ([\d.e+-]+)", told)[1]) < 1e-5
    assert "packed" in told
    assert "'decide, one call': 1," in told
    assert "tokens {'ten generate calls': 6, 'generate(num_return_sequences=10)': 6, 'ours': 6}" in told
    assert "'generate(num_return_sequences=10)': 1, 'ours': 1}" in told
