"""Opt-outs in the rows of `mmalign enhance-data`: heeded by stage signals, and named where that stage is absent."""

import json

import PIL.Image
import pytest

from mm_align.cli import main

REPLY = 'null:{"Overall Score": "9<Overall>"}'


@pytest.fixture
def source(tmp_path):
    """Four rows, of which two refuse."""
    folder = tmp_path / "src"
    folder.mkdir()
    PIL.Image.new("RGB", (8, 8), "red").save(folder / "x.png")
    fields = [{"opt_out": True}, {}, {"X-Robots-Tag": "noai"}, {"opt_out": False}]
    rows = [{"id": f"r{i}", "image": "x.png", "caption": f"a red square, number {i}"} | more for i, more in enumerate(fields)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def enhance(source, out, *more):
    words = ["enhance-data", str(source), "--out", str(out), "--model", REPLY, "--prompt", "aitqe"]
    assert main([*words, *more]) == 0
    return [json.loads(line)["id"] for line in (out / "a.jsonl").read_text().splitlines()] if out.exists() else []


def test_rows_that_refuse_are_named_where_no_stage_heeds_them(source, tmp_path, capsys):
    assert enhance(source, tmp_path / "out") == ["r0", "r1", "r2", "r3"]
    told = "2 of the first 4 rows refuse their use for training (opt-out fields); only the stage `signals` heeds that"
    assert told in capsys.readouterr().err
    assert told in (tmp_path / "out" / "report.json").read_text()
    enhance(source, tmp_path / "dry", "--dry-run")
    assert told in capsys.readouterr().err


def test_they_leave_by_signals_and_stay_when_told_so(source, tmp_path, capsys):
    assert enhance(source, tmp_path / "out", "--stages", "signals,aitqe") == ["r1", "r3"]
    assert enhance(source, tmp_path / "kept", "--opt-outs", "keep") == ["r0", "r1", "r2", "r3"]
    assert "refuse their use" not in capsys.readouterr().err
