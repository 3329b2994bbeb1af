"""The bench of training through its door, with three steps of two rows: every way trains on the same tokens from the same loss."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_train", ROOT / "scripts/bench/train.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_train", module)
    spec.loader.exec_module(module)
    for name, value in {"BATCH": 2, "STEPS": 3, "WARMUP": 1, "LOGGED": 2}.items():
        monkeypatch.setattr(module, name, value)
    return module


def lines(text: str) -> dict[str, tuple[str, float]]:
    """Way -> its tokens, with those that train, and its loss."""
    found = re.findall(r"^  (.+?)  .*; (\d+ tokens, \d+ train), loss ([\d.]+)$", text, re.MULTILINE)
    return {name.strip(): (tokens, float(loss)) for name, tokens, loss in found}


def test_loops_do_the_same_work(bench, capsys):
    bench.main(["--only", "loops", "--rounds", "1"])
    found = lines(capsys.readouterr().out)
    assert {"ours", "loop by hand", "loop by hand, our objective"} <= set(found)
    assert len({tokens for tokens, _ in found.values()}) == 1
    assert max(loss for _, loss in found.values()) == pytest.approx(min(loss for _, loss in found.values()), abs=2e-3)


def test_packs_hold_the_rows_and_shared_pictures_give_the_same_loss(bench, capsys):
    bench.main(["--only", "packing", "--rounds", "1"])
    assert set(lines(capsys.readouterr().out)) == {"padded", "packed"}
    bench.main(["--only", "pictures", "--rounds", "1"])
    found = lines(capsys.readouterr().out)
    assert found["a picture a row"] == found["each picture once"]
