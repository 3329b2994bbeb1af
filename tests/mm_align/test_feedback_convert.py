"""`mmalign rlaif convert` through the command line: every format into every other, quarantine, pictures as files, refusals."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from data_tools.preference import FORMATS, read_pairs
from mm_align.cli import main


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """LLaMA-Factory's demo shape: one good pair, one with equal answers, one whose picture is gone."""
    PIL.Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    turn = {"from": "human", "value": "<image>What is it?"}

    def row(rejected: str, picture: str = "red.png") -> dict[str, Any]:
        answers = {"chosen": {"from": "gpt", "value": "A dog."}, "rejected": {"from": "gpt", "value": rejected}}
        return {"conversations": [turn], **answers, "images": [picture], "topic": "dogs", "margin": 2.0}

    path = tmp_path / "demo.json"
    path.write_text(json.dumps([row("Two cats."), row("A dog."), row("A cat.", "gone.png")]))
    return path


def convert(source: Path, out: Path, *more: str) -> int:
    return main(["rlaif", "convert", str(source), "--out", str(out), *more])


@pytest.mark.parametrize(("format", "suffix"), [(name, suffix) for name in FORMATS for suffix in FORMATS[name]])
def test_into_every_format_and_back(format: str, suffix: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / f"pairs{suffix}"
    assert convert(rows, out, "--format", format, "--json") == 0
    told = capsys.readouterr()
    assert "1 pairs written" in told.err
    assert json.loads(told.out) == {
        **{"out": str(out), "format": format, "written": 1, "left_out": {"equal_answers": 1, "image_missing": 1}},
        "quarantine": f"{out}.quarantine",
    }
    lost = [json.loads(line) for line in out.with_name(f"{out.name}.quarantine").read_text().splitlines()]
    assert [(row["reason"], row["source"]["row"]) for row in lost] == [("equal_answers", 1), ("image_missing", 2)]
    back = tmp_path / "back.jsonl"
    assert convert(out, back) == 0
    assert not back.with_name("back.jsonl.quarantine").exists()
    (found,) = read_pairs(back)
    assert (found.chosen, found.rejected, found.margin, found.sample.meta["topic"]) == ("A dog.", "Two cats.", 2.0, "dogs")


def test_embedded_pictures_become_files_where_a_toolkit_needs_files(rows: Path, tmp_path: Path) -> None:
    convert(rows, tmp_path / "pairs.parquet", "--format", "rlaifv")
    assert convert(tmp_path / "pairs.parquet", tmp_path / "pairs.json", "--format", "llama_factory") == 0
    (row,) = json.loads((tmp_path / "pairs.json").read_text())
    assert (tmp_path / row["images"][0]).read_bytes() == (tmp_path / "red.png").read_bytes()
    assert row["images"][0].startswith("pairs_pictures/")
    assert convert(tmp_path / "pairs.parquet", tmp_path / "own.jsonl", "--pictures", str(tmp_path / "kept")) == 0
    assert "kept/" in (tmp_path / "own.jsonl").read_text()


def test_what_the_target_cannot_hold_is_quarantined(rows: Path, tmp_path: Path) -> None:
    row = json.loads(rows.read_text())[0]
    two = row | {"images": ["red.png", "red.png"], "conversations": [{"from": "human", "value": "<image><image>Which?"}]}
    rows.write_text(json.dumps([two, row]))
    assert convert(rows, tmp_path / "pairs.parquet", "--format", "rlaifv") == 0
    (lost,) = (tmp_path / "pairs.parquet.quarantine").read_text().splitlines()
    assert json.loads(lost)["reason"] == "too_much"


def test_refusals_name_the_cure(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: Any) -> str:
        assert convert(*words) == 2
        return capsys.readouterr().err

    out = tmp_path / "pairs.jsonl"
    assert "trl' is written to .parquet or .jsonl" in told(rows, tmp_path / "pairs.csv", "--format", "trl")
    assert "No such file" in told(tmp_path / "gone.json", out)
    assert "is the source itself" in told(rows, rows)
    (tmp_path / "odd.jsonl").write_text('{"better": "a", "worse": "b"}\n')
    assert "its rows have 'better', 'worse'" in told(tmp_path / "odd.jsonl", out)
    rows.write_text(json.dumps(json.loads(rows.read_text())[1:]))
    assert "no pair that can be used: 1 x equal_answers, 1 x image_missing" in told(rows, out)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))
    out.write_text("mine\n")
    assert "--overwrite" in told(rows, out)
    assert out.read_text() == "mine\n"
