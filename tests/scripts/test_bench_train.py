"""The bench of training through its door, with three steps of two rows: every way trains on the same tokens from the same loss."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def loaded(monkeypatch, name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / f"scripts/bench/{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"bench_{name}", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench(monkeypatch):
    module = loaded(monkeypatch, "train")
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
    assert [name.partition(",")[0] for name in lines(capsys.readouterr().out)] == ["padded", "packed", "packed"]
    bench.main(["--only", "pictures", "--rounds", "1"])
    found = lines(capsys.readouterr().out)
    assert found["a picture a row"] == found["each picture once"]


def test_the_model_for_a_gpu_has_the_size_it_is_said_to_have(monkeypatch):
    """The run itself needs a GPU and was never made; here its shapes on the meta device."""
    model, inputs = loaded(monkeypatch, "train_gpu").random_model(24, 2048, 2048, 8, device="meta")
    assert 1.6e9 < model.num_parameters() < 1.7e9
    assert 1.3e9 < sum(p.numel() for p in model.parameters() if p.requires_grad) < 1.4e9
    assert inputs["pixel_values"].shape == (8, 3, 336, 336)
