"""The bench of `mmalign memory`: real steps against the estimate, within the 15 % asked for."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_memory", ROOT / "scripts/bench/memory.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_memory"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_memory"]


@pytest.mark.parametrize("changes", [{}, {"checkpointing": True, "layers": 6}, {"bf16": True, "train": ("adapter",)}], ids=str)
def test_a_small_step(bench, changes):
    case = bench.Case("small", hidden=128, layers=2, rows=2, tokens=256)._replace(**changes)
    assert bench.estimated(case) == pytest.approx(bench.measured(case, steps=2), rel=bench.ASKED)


@pytest.mark.slow
def test_every_case(bench, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["memory.py"])
    bench.main()
    assert f"{len(bench.CASES)} of {len(bench.CASES)} within 15%" in capsys.readouterr().out
