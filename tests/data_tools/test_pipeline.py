"""The pipeline with a fake step: order, identity, audit, rules, duplicates, limits, blocks."""

import dataclasses
import json

import pytest
from pipeline_cases import batch_step, do, make_plan, png, rows_of, write_source

from data_tools.aitqe import quota
from data_tools.io import list_shards, read
from data_tools.records import Verdict
from data_tools.run.directory import RunRefused
from data_tools.run.finalising import _Render
from data_tools.run.plan import Summary, check_identity


def test_rows_keep_order_and_fields(source, reference):
    """Of rows 0..24 the third and the eleventh left; multiples of 3 are rewritten."""
    rows = rows_of(reference / "part-1.jsonl")
    assert [row["extra"]["z"] for row in rows] == [i for i in range(25) if i not in (3, 11)]
    first, second = rows[:2]
    assert list(first) == ["id", "image", "caption", "extra", "caption_raw", "aitqe"]
    assert first["caption"].startswith("caption 0 of 1 with ")
    assert first["caption_raw"] == "caption 0 of 1"
    assert first["aitqe"] == {"action": "rewrite", "overall": 3.0, "reason": "model"}
    assert second["caption"] == second["caption_raw"] == "caption 1 of 1"


def test_what_left_says_why(reference):
    gone = rows_of(reference / "quarantine" / "part-0.jsonl")
    assert [(row["source"]["row"], row["reason"]) for row in gone] == [(3, "bad_json"), (11, "image_missing")]
    assert "broken" in gone[0]["raw"]
    assert "caption 11 of 0" in gone[1]["raw"]


def test_the_identity_holds(source, tmp_path):
    summary = do(source, tmp_path / "out")
    assert summary.rows == 50 == summary.out + summary.quarantined
    assert summary.reasons == {"bad_json": 2, "image_missing": 2}
    assert (summary.kept, summary.rewritten) == (46 - 16, 16)


def test_a_lost_row_is_an_error():
    with pytest.raises(RuntimeError, match="a row was lost"):
        check_identity(Summary(rows=3, out=1, kept=1, quarantined=1), "x")
    with pytest.raises(RuntimeError, match="a row was lost"):
        check_identity(Summary(rows=3, out=2, kept=1, quarantined=1), "x")


def test_a_row_that_the_second_pass_forgets_is_an_error(source, tmp_path, monkeypatch):
    """The journal's rows are compared with what was written, so that a row which neither leaves nor stays is noticed."""
    stays = _Render._stays
    monkeypatch.setattr(_Render, "_stays", lambda self, item, *rest: item.source.row != 7 and stays(self, item, *rest))
    with pytest.raises(RuntimeError, match="part-0: 25 rows in, but 22 out .* and 2 quarantined: a row was lost"):
        do(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("part-0*"))


def test_blocks_are_fixed_in_the_input_order(source, tmp_path):
    """Blocks of 4 rows; the broken rows 3 and 11 leave their blocks with three samples."""
    seen = []
    do(source, tmp_path / "out", make_plan(step=lambda samples: (seen.append([s.source.row for s in samples]), batch_step(samples))[1]))
    assert seen[:4] == [[0, 1, 2], [4, 5, 6, 7], [8, 9, 10], [12, 13, 14, 15]]
    assert [24] in seen


def test_samples_come_decoded(source, tmp_path):
    sizes = set()
    do(
        source,
        tmp_path / "out",
        make_plan(step=lambda samples: (sizes.update(s.images[0].pixels.size for s in samples), batch_step(samples))[1]),
    )
    assert sizes == {(8, 8)}


def test_a_step_must_answer_every_sample(source, tmp_path):
    with pytest.raises(ValueError, match="one each, in order"):
        do(source, tmp_path / "out", make_plan(step=lambda samples: batch_step(samples)[1:]))


@pytest.mark.parametrize("rows", [0, -3])
def test_a_block_has_rows(rows):
    with pytest.raises(ValueError, match="at least one row"):
        make_plan(block_rows=rows)


def test_a_rule_sees_the_shard_first_and_decides_last(source, tmp_path):
    """The rule allows one rewrite a shard: the first row's; the second pass applies it, the journal keeps what the step said."""

    def rule(verdicts):
        allowed = next(row for row, verdict in verdicts if verdict.action == "rewrite")
        return lambda row, v: v if v.action != "rewrite" or row == allowed else dataclasses.replace(v, action="keep", reason="quota")

    summary = do(source, tmp_path / "out", make_plan(rule=rule))
    assert summary.rewritten == 2
    rows = rows_of(tmp_path / "out" / "part-0.jsonl")
    assert [row["aitqe"]["reason"] for row in rows if row["extra"]["z"] % 3 == 0] == ["model"] + ["quota"] * 7
    assert rows[4]["caption"] == rows[4]["caption_raw"]


def test_dropped_rows_are_in_quarantine_with_their_reason(source, tmp_path):
    def dropping(samples):
        return [Verdict("drop" if s.source.row < 2 else "keep", reason="nsfw" if s.source.row == 0 else "") for s in samples]

    summary = do(source, tmp_path / "out", make_plan(step=dropping))
    assert summary.reasons == {"bad_json": 2, "drop": 2, "image_missing": 2, "nsfw": 2}


def test_the_limit_counts_rows_of_the_source(source, tmp_path):
    summary = do(source, tmp_path / "out", make_plan(limit=30))
    assert summary.rows == 30
    assert len(rows_of(tmp_path / "out" / "part-1.jsonl")) == 4
    do(source, tmp_path / "one", make_plan(limit=2))
    assert not (tmp_path / "one" / "part-1.jsonl").exists()


def test_duplicates_are_reported_or_quarantined(tmp_path):
    """Rows 1 and 2 of shard b repeat ids: one of shard a, one of its own."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "x.png").write_bytes(png("red"))
    for name, ids in (("a", "pq"), ("b", "rpr")):
        rows = [{"id": i, "image": "x.png", "caption": f"{name}{k}"} for k, i in enumerate(ids)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = do(folder, tmp_path / "kept")
    assert (kept.out, kept.duplicates) == (5, 2)
    assert list(kept.first_duplicates) == ["b row 1: id 'p'", "b row 2: id 'r'"]
    gone = do(folder, tmp_path / "gone", make_plan(on_duplicate="quarantine"))
    assert (gone.out, gone.reasons) == (3, {"duplicate_id": 2})
    again = do(folder, tmp_path / "gone", make_plan(on_duplicate="quarantine"))
    assert again == gone


def test_a_row_with_our_fields_leaves(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "x.png").write_bytes(png("red"))
    rows = [{"id": "1", "image": "x.png", "caption": "a"}, {"id": "2", "image": "x.png", "caption": "b", "caption_raw": "c"}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = do(folder, tmp_path / "out")
    assert summary.reasons == {"field_collision": 1}


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webdataset", "folder"])
def test_a_null_caption_stays_null_in_the_raw_field(tmp_path, format):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "x.png").write_bytes(png("red"))
    rows = [{"id": str(i), "image": "x.png", "caption": c} for i, c in enumerate((None, "", "a"))]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    do(folder, tmp_path / "out", make_plan(format=format, step=lambda samples: [Verdict("rewrite", text="new")] * len(samples)))
    (shard,) = list_shards(tmp_path / "out")
    out = sorted(read(shard), key=lambda s: s.meta["id"])
    assert [(s.meta["caption_raw"], s.caption) for s in out] == [(None, "new"), ("", "new"), ("a", "new")]


def test_a_row_that_the_format_cannot_hold_leaves(tmp_path):
    """A folder holds one picture a row; the row with two is told of, and the others are written."""
    folder = tmp_path / "src"
    folder.mkdir()
    for name in "xy":
        (folder / f"{name}.png").write_bytes(png("red"))
    rows = [{"id": str(i), "images": [f"{n}.png" for n in names], "caption": f"c{i}"} for i, names in enumerate(("x", "xy", "y"))]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = do(folder, tmp_path / "out", make_plan(format="folder"))
    assert (summary.rows, summary.out, summary.reasons) == (3, 2, {"not_writable": 1})
    (gone,) = rows_of(tmp_path / "out" / "quarantine" / "a.jsonl")
    assert (gone["source"]["row"], gone["reason"]) == (1, "not_writable")
    assert "one picture a row" in gone["detail"]
    assert len(list((tmp_path / "out" / "a").glob("*.png"))) == 2


@pytest.mark.parametrize("name", ["quarantine", "a.quarantine", "quarantine.output", "report"])
def test_no_name_of_a_shard_is_in_the_way(tmp_path, name):
    folder = write_source(tmp_path / "src", shards=1, rows=5)
    (folder / "part-0.jsonl").rename(folder / f"{name}.jsonl")
    assert do(folder, tmp_path / "out").rows == 5
    assert len(rows_of(tmp_path / "out" / f"{name}.jsonl")) == 4
    assert len(rows_of(tmp_path / "out" / "quarantine" / f"{name}.jsonl")) == 1


def test_a_folder_that_would_lie_on_the_quarantine_is_refused(tmp_path):
    folder = write_source(tmp_path / "src", shards=1, rows=5)
    (folder / "part-0.jsonl").rename(folder / "quarantine.jsonl")
    with pytest.raises(RunRefused, match="called 'quarantine', a name that a run needs"):
        do(folder, tmp_path / "out", make_plan(format="hf"))
    assert not (tmp_path / "out").exists()


def test_the_quota_is_of_rows_that_stay(tmp_path):
    """Of 6 rows 2 are duplicates and leave; half of the other 4 may be rewritten, and no duplicate takes one of the 2 places."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "x.png").write_bytes(png("red"))
    rows = [{"id": i, "image": "x.png", "caption": f"c{k}"} for k, i in enumerate("aabbcd")]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def step(samples):
        return [Verdict("rewrite", text="new", p_rewrite=0.9 if s.source.row in (1, 3) else 0.6) for s in samples]

    summary = do(folder, tmp_path / "out", make_plan(step=step, rule=quota(0.5), on_duplicate="quarantine"))
    assert (summary.rewritten, summary.kept, summary.reasons) == (2, 2, {"duplicate_id": 2})
