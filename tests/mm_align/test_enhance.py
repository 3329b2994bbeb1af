"""`mmalign enhance-data` through its door: what comes out, by which policy, in which format, and what a dry run shows."""

import json
import os
import re

import pytest
from scripted_enhance import Scripted, command, plain_rows, rows_of, write_rows

import mm_align
from data_tools.io import list_shards, read
from mm_align.config import UserError


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "src", plain_rows())


def test_poor_captions_are_rewritten_and_everything_is_told(quality_model, source, tmp_path, capsys):
    assert command(source, tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out" / "rows.jsonl")
    assert [r["id"] for r in rows] == [f"r{i}" for i in range(10)]
    good, bad = rows[:2]
    assert list(good) == ["id", "image", "caption", "more", "caption_raw", "aitqe"]
    assert good["caption"] == good["caption_raw"] == "caption 0"
    assert (good["aitqe"]["action"], good["aitqe"]["scores"]["overall"]) == ("keep", 9)
    assert (bad["caption"], bad["caption_raw"]) == ("a small square on white ground", "bad caption 1")
    assert (bad["aitqe"]["action"], bad["aitqe"]["p_rewrite"], bad["aitqe"]["model"]) == ("rewrite", 0.5, "null")
    assert bad["more"] == [1, None]
    assert "10 rows in = 5 kept + 5 rewritten + 0 quarantined" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["identity"]["holds"]
    assert report["counts"]["rewritten"] == 5
    assert "bad caption 1" in (tmp_path / "out" / "report.html").read_text()


def test_rows_hold_no_place_and_no_time(quality_model, source, tmp_path):
    command(source, tmp_path / "out")
    text = (tmp_path / "out" / "rows.jsonl").read_text()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text
    assert not re.search(r"20\d\d-\d\d", text)


def test_the_python_face(source, tmp_path):
    report = mm_align.enhance(source, tmp_path / "out", backend=Scripted(), policy="never")
    assert (report.summary.rows, report.summary.kept, report.fresh_rows) == (10, 10, 10)
    with pytest.raises(UserError, match="did you mean 'policy'"):
        mm_align.enhance(source, tmp_path / "other", polcy="never")


@pytest.mark.parametrize(
    ("flags", "rewritten"),
    [
        (["--policy", "threshold", "--min-overall", "9.5"], 5),
        (["--policy", "never"], 0),
        (["--max-rewrite-fraction", "0.25"], 2),
        (["--set", "guards.roomy_chars=5", "--set", "guards.max_ratio=0.9"], 0),
    ],
)
def test_policies_and_guards_arrive(quality_model, source, tmp_path, flags, rewritten):
    """Of 10 rows the model rewrites 5. A quarter of 10 is 2. A guard that allows no longer text refuses all 5."""
    assert command(source, tmp_path / "out", *flags) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["rewritten"] == rewritten


def test_a_default_written_out_is_no_wish(quality_model, source, tmp_path):
    assert command(source, tmp_path / "out", "--min-overall", "7", "--set", "guards.language=de") == 0


def test_rewrites_are_rescored_on_request(quality_model, source, tmp_path):
    """The script says 2 of a bad caption and 9 of its rewrite; kept rows are not asked about again."""
    assert command(source, tmp_path / "out", "--rescore") == 0
    scores = [row["aitqe"]["scores"] for row in rows_of(tmp_path / "out" / "rows.jsonl")]
    assert [(s["overall"], s["overall_after"]) for s in scores] == [(9, None), (2, 9)] * 5
    assert len(quality_model.rows) == 15
    assert json.loads((tmp_path / "out" / "report.json").read_text())["scores"]["overall"]["rescored"]["n"] == 5


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webdataset", "folder", "hf"])
def test_every_format_out_and_in_again(quality_model, source, tmp_path, format):
    """JSONL to each format; that output without our fields is a source of its own, whose format is kept."""
    out = tmp_path / "out"
    assert command(source, out, "--format", format) == 0
    (shard,) = list_shards(out)
    rows = sorted(read(shard), key=lambda r: r.meta["id"])  # a folder of pictures is in the order of its file names
    assert [r.caption for r in rows][:2] == ["caption 0", "a small square on white ground"]
    assert [r.meta["aitqe"]["action"] for r in rows] == ["keep", "rewrite"] * 5
    assert rows[1].meta["aitqe"]["scores"]["overall"] == 2
    assert rows[1].meta["caption_raw"] == "bad caption 1"
    assert command(out, tmp_path / "again") == 2


def test_dry_run_writes_nothing(quality_model, tmp_path, capsys):
    folder = write_rows(tmp_path / "src", plain_rows(50))
    assert command(folder, tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "'bad caption 1' -> 'a small square on white ground'" in said
    assert "dry run: 20 rows" in said
    assert "50 rows in all" in said
    assert not (tmp_path / "out").exists()


def test_dry_run_shows_what_would_leave_and_why(quality_model, tmp_path, capsys):
    rows = [*plain_rows(2), {"id": "r2", "image": "x.png"}, {"id": "r3", "image": "gone.png", "caption": "bad gone"}, *plain_rows(1)]
    assert command(write_rows(tmp_path / "src", rows), tmp_path / "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["keep", "rewrite", "gone", "gone", "keep", "dry"]
    assert "row 2 would go to quarantine: missing_caption: none of caption, text, txt" in lines[2]
    assert "row 3 would go to quarantine: image_missing" in lines[3]


def test_a_limit_ends_early(quality_model, source, tmp_path):
    assert command(source, tmp_path / "out", "--limit", "3") == 0
    assert len(rows_of(tmp_path / "out" / "rows.jsonl")) == 3


def test_foreign_data_is_warned_about_only_when_foreign(source, tmp_path, caplog):
    """A model that says its domain is known by the field `more` is silent here; one that looks for `toy` is not."""
    for key, warned in (("more", False), ("toy", True)):
        backend = Scripted()
        backend.domain = {"name": "Toys", "row_key": key, "message": "knows only toys; choose another with --model"}
        caplog.clear()
        mm_align.enhance(source, tmp_path / key, backend=backend)
        assert ("knows only toys" in caplog.text) == warned
        assert ("knows only toys" in (tmp_path / key / "report.html").read_text()) == warned
