"""`mmalign vision landmarks` through the command line: rows that readers and training take, quarantine, refusals."""

import json
from pathlib import Path

import PIL.Image
import pytest

from data_tools.io import decode, list_shards, read
from data_tools.landmarks import place_of
from data_tools.records import Sample
from mm_align.cli import main

HIERARCHY = """landmark_id,category,supercategory,hierarchical_label,natural_or_human_made
10,http://commons.wikimedia.org/wiki/Category:Eiffel_Tower,tower,tower,human-made
11,http://commons.wikimedia.org/wiki/Category:Niagara_Falls,waterfall,water,natural
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "hierarchy.csv").write_text(HIERARCHY)
    (tmp_path / "clean.csv").write_text("landmark_id,images\n10,0a1b2c3d4e5f6071 1a1b2c3d4e5f6071\n11,2a1b2c3d4e5f6071 3a1b2c3d4e5f6071\n")
    for image_id in ("0a1b2c3d4e5f6071", "1a1b2c3d4e5f6071", "2a1b2c3d4e5f6071"):
        path = tmp_path / "train" / place_of(image_id)
        path.parent.mkdir(parents=True)
        PIL.Image.new("RGB", (12, 10)).save(path)
    return tmp_path


def run(files: Path, *more: str) -> int:
    words = ["vision", "landmarks", str(files / "clean.csv"), "--hierarchy", str(files / "hierarchy.csv")]
    return main([*words, "--images", str(files / "train"), "--out", str(files / "out"), *more])


def test_rows_are_read_back_with_pictures_and_levels(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files) == 0
    rows = [row for shard in list_shards(files / "out") for row in read(shard)]
    assert len(rows) == 3
    for row in rows:
        assert isinstance(row, Sample)
        assert decode(row.images[0]).pixels.size == (12, 10)  # type: ignore[union-attr]
        assert row.meta["entity"]["levels"][-1] == row.meta["entity"]["name"]
    gone = [json.loads(line) for line in (files / "out" / "quarantine" / "landmarks.jsonl").read_text().splitlines()]
    assert [g["reason"] for g in gone] == ["image_missing"]
    told = capsys.readouterr().out
    assert "3 pictures of 2 landmarks" in told
    assert "natural_or_human_made (2) > hierarchical_label (2) > supercategory (2) > landmark (2)" in told
    assert "1 x image_missing" in told


def test_again_other_settings_and_overwrite(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["quarantined"]) == (3, {"image_missing": 1})
    assert run(files, "--json") == 0
    assert json.loads(capsys.readouterr().out) == told
    assert run(files) == 0
    assert "already holds these landmarks" in capsys.readouterr().out
    assert run(files, "--per-landmark", "1") == 2
    assert "per_landmark: was None, now 1" in capsys.readouterr().err
    assert run(files, "--per-landmark", "1", "--limit", "1", "--overwrite") == 0
    assert len((files / "out" / "landmarks.jsonl").read_text().splitlines()) == 1


def test_refusals(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--images", str(files / "nowhere")) == 2
    assert "is no folder" in capsys.readouterr().err
    (files / "empty").mkdir()
    assert run(files, "--images", str(files / "empty")) == 2
    assert "4 x image_missing" in capsys.readouterr().err
    assert run(files, "--hierarchy", str(files / "clean.csv")) == 2
    assert "columns landmark_id, category" in capsys.readouterr().err
    assert not (files / "out").exists()
    assert run(files, "--out", str(files / "train"), "--overwrite") == 2
    assert "was not made by `mmalign vision landmarks`" in capsys.readouterr().err
