"""Shards that cannot be read, break off, or change while a run reads them."""

import json

import pipeline_cases as cases
import pytest

from data_tools.io import list_shards
from data_tools.run.directory import RunRefused, RunStopped
from data_tools.run.plan import Watch
from data_tools.run.steady import read_on


@pytest.fixture
def source(tmp_path):
    return cases.write_source(tmp_path / "src", shards=3, rows=20)


def test_a_shard_that_cannot_be_opened_is_one_line_and_the_run_goes_on(source, tmp_path):
    (source / "part-1.jsonl").unlink()
    (source / "part-1.jsonl").symlink_to(source / "nowhere")
    summary = cases.do(source, tmp_path / "out")
    assert (summary.rows, summary.reasons["shard_unreadable"]) == (41, 1)
    (line,) = cases.rows_of(tmp_path / "out" / "quarantine" / "part-1.jsonl")
    assert (line["source"]["shard"], line["reason"]) == ("part-1", "shard_unreadable")
    assert "No such file" in line["detail"]
    assert (tmp_path / "out" / "part-1.jsonl").read_text() == ""


def test_reading_that_fails_on_the_way_stops_the_run_to_be_continued(source):
    def broken():
        yield from ["row 0", "row 1"]
        raise OSError(5, "Input/output error")

    shard = list_shards(source)[0]
    rows = read_on(shard, broken, skip=3)
    assert [next(rows), next(rows)] == ["row 0", "row 1"]
    with pytest.raises(RunStopped, match=r"after 5 rows .*Input/output error.*run the same command"):
        next(rows)


def changing(path, before):
    """A watch under whose eyes the file changes once, after a block that `before` the change says yes to."""
    left = [1]

    def stop():
        if left and before():
            left.pop()
            rows = path.read_text().splitlines()
            path.write_text("\n".join([*rows[:-1], rows[-1].replace("caption", "CAPTION")]) + "\n")
        return False

    return Watch(stop)


def test_a_shard_that_changes_while_it_is_judged_is_refused_and_restored_continues(source, tmp_path):
    """The change keeps every id and the file's size, so only its time tells."""
    path, original = source / "part-1.jsonl", (source / "part-1.jsonl").read_bytes()
    expected = cases.do(source, tmp_path / "expected") and cases.results(tmp_path / "expected")
    out = tmp_path / "out"
    watch = changing(path, lambda: (out / ".mmalign" / "journal" / "part-1.jsonl").exists())
    with pytest.raises(RunRefused, match="changed while it was read"):
        cases.do(source, out, watch=watch)
    with pytest.raises(RunRefused, match="source changed since the run"):
        cases.do(source, out)
    path.write_bytes(original)
    cases.do(source, out)
    assert cases.results(out) == expected


def test_what_changes_between_two_passes_is_seen_too(source, tmp_path):
    out, path = tmp_path / "out", source / "part-0.jsonl"
    watch = changing(path, lambda: (out / ".mmalign" / "journal" / "part-0.jsonl").read_bytes().count(b"\n") >= 2)
    with pytest.raises(RunRefused, match="changed while it was read"):
        cases.do(source, out, watch=watch)
    assert not (out / ".mmalign" / "done" / "part-0.json").exists()
    assert json.loads((out / ".mmalign" / "run.json").read_text())["made_by"] == "mm-align"
