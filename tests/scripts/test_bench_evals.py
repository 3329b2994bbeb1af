"""The bench of scoring through its door, one run of each; how pattern's singularize is cut out of its file."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_evals", ROOT / "scripts/bench/evals.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_evals", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CAPTIONS", 50)
    return module


def test_every_benchmark_is_scored_without_torch(bench, capsys):
    bench.main(["--runs", "1"])
    told = capsys.readouterr().out
    assert re.findall(r"^(\w+), ([\d,]+) made-up", told, re.MULTILINE) == [("chair", "50"), ("pope", "9,000"), ("amber", "15,220")]
    assert re.findall(r"^  (\w+): [\d.]+ ", told, re.MULTILINE) == ["pattern_singularize", "opera"]


def test_singularize_is_cut_out_with_its_tables(bench, tmp_path):
    source = "import missing\nsingular_ie = ['x']\nother = missing.y\ndef singularize(word, pos=NOUN):\n    return word + singular_ie[0]\n"
    (tmp_path / "inflect.py").write_text(source)
    names: dict = {}
    exec(bench.cut_out(tmp_path / "inflect.py"), names)
    assert names["singularize"]("bo") == "box"
    assert "other" not in names
