"""The pipeline with a fake step: order, identity, audit, rules, duplicates, limits, batches, stopping and resuming."""

import dataclasses
import errno
import hashlib
import io
import json
import os

import pytest
from PIL import Image

from data_tools.aitqe import quota
from data_tools.calls import CallFailed
from data_tools.finalising import _Render
from data_tools.io import list_shards, read
from data_tools.journal import Journal
from data_tools.pipeline import Plan, SeenIds, Summary, Watch, run, stopping_on_full_disk
from data_tools.plan import check_identity
from data_tools.records import Verdict
from data_tools.shards import RunRefused, RunStopped, fingerprint, open_run


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def write_source(folder, shards=2, rows=25):
    """Rows 3 and 11 of every shard are broken: no JSON, no picture file."""
    folder.mkdir(parents=True, exist_ok=True)
    for s in range(shards):
        lines = []
        for i in range(rows):
            name = f"{s}-{i}.png"
            if i != 11:
                (folder / name).write_bytes(png((s * 40, i * 5 % 256, 9)))
            row = {"id": f"s{s}r{i}", "image": name, "caption": f"caption {i} of {s}", "extra": {"z": i, "a": None}}
            lines.append("{ broken" if i == 3 else json.dumps(row))
        (folder / f"part-{s}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def batch_step(samples):
    """Every third caption is rewritten; the text tells which samples were judged together."""
    together = hashlib.sha256("".join(s.id for s in samples).encode()).hexdigest()[:8]
    return [
        Verdict("rewrite", {"overall": 3.0}, text=f"{s.caption} with {together}", p_rewrite=0.9, reason="model")
        if s.source.row % 3 == 0
        else Verdict("keep", {"overall": 8.0}, p_rewrite=0.1, reason="model")
        for s in samples
    ]


def make_plan(**changes):
    audit = changes.pop("audit", lambda v: {"action": v.action, "overall": v.scores.get("overall"), "reason": v.reason})
    return Plan(**{"step": batch_step, "audit": audit, "block_rows": 4, **changes})


def do(source, out, plan=None, watch=None):
    shards, plan = list_shards(source), plan or make_plan()
    outputs = [name for s in shards for name in (f"{s.name}{plan.suffix(s)}", f"quarantine/{s.name}.jsonl")]
    binding = {"source": {s.name: fingerprint(s.path) for s in shards}}
    with open_run(out, binding, outputs) as run_dir:
        return run(shards, plan, run_dir, watch or Watch())


def results(out):
    """Every file whose bytes must not depend on how often a run was interrupted."""
    places = [*out.glob("*.*"), *out.glob("quarantine/*"), *out.glob(".mmalign/stats/*"), *out.glob(".mmalign/done/*")]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in places if p.is_file()}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def reference(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    do(source, out)
    return out


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


def test_stopping_after_any_block_and_going_on_is_the_same(source, reference, tmp_path):
    """14 blocks in two shards; after each stop the next start goes on, and the finished run equals the undisturbed one."""
    for every in (1, 3):
        out, starts = tmp_path / str(every), 0
        while True:
            starts += 1
            watch = Watch()
            watch.stop = lambda watch=watch, every=every: watch.fresh_rows >= 4 * every
            try:
                do(source, out, watch=watch)
                break
            except RunStopped:
                assert starts < 60
        assert starts > 4
        assert results(out) == results(reference)


def test_a_step_that_fails_leaves_what_was_committed(source, reference, tmp_path):
    calls = []

    def failing(samples):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("the model broke")
        return batch_step(samples)

    with pytest.raises(RuntimeError, match="the model broke"):
        do(source, tmp_path / "out", make_plan(step=failing))
    calls = [0] * 10
    seen = []
    do(source, tmp_path / "out", make_plan(step=lambda samples: (seen.append(samples[0].source.row), batch_step(samples))[1]))
    assert seen[0] == 12
    assert results(tmp_path / "out") == results(reference)


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


def test_seen_ids_over_many_shards():
    import numpy as np

    seen, rng = SeenIds(), np.random.default_rng(0)
    known: set[int] = set()
    for _ in range(40):
        ids = rng.integers(0, 500, 20).astype("<u8")
        expected, here = [], set()
        for i in ids.tolist():
            expected.append(i != 0 and (i in known or i in here))
            here.add(i)
        assert seen.repeated(ids).tolist() == expected
        seen.add(ids)
        known |= here - {0}
    assert len(seen._runs) < 8


def test_a_row_with_our_fields_leaves(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "x.png").write_bytes(png("red"))
    rows = [{"id": "1", "image": "x.png", "caption": "a"}, {"id": "2", "image": "x.png", "caption": "b", "caption_raw": "c"}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = do(folder, tmp_path / "out")
    assert summary.reasons == {"field_collision": 1}


@pytest.fixture
def timeless(monkeypatch):
    """Files whose times tell nothing, as where a run goes on in another process."""
    monkeypatch.setattr("data_tools.steady._state", lambda path: ())


def test_a_source_that_changes_under_the_run_is_refused(tmp_path, timeless):
    """Same size, other rows: the id hashes of the journal do not fit what is read in the second pass."""
    folder = write_source(tmp_path / "src", shards=1, rows=10)
    path = folder / "part-0.jsonl"

    def changing(samples):
        path.write_text(path.read_text().replace("s0r5", "s0x5"))
        return batch_step(samples)

    with pytest.raises(RunRefused, match="rows 4 to 7 .* are not what was judged"):
        do(folder, tmp_path / "out", make_plan(step=changing, block_rows=4))


def test_a_source_that_grows_under_the_run_is_refused(tmp_path, monkeypatch, timeless):
    folder = write_source(tmp_path / "src", shards=1, rows=10)
    path, finish = folder / "part-0.jsonl", Journal.finish

    def growing(journal):
        finish(journal)
        path.write_text(path.read_text() + '{"one": "more"}\n')

    monkeypatch.setattr(Journal, "finish", growing)
    with pytest.raises(RunRefused, match="holds more than the 10 rows that were judged"):
        do(folder, tmp_path / "out")


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


def test_a_full_disk_at_any_write_can_be_continued(source, reference, tmp_path, monkeypatch):
    """The n-th fsync fails with ENOSPC, for every n there is: always RunStopped, and the next start ends the same."""
    fsync, out = os.fsync, tmp_path / "out"
    for n in range(200):
        left = [n]

        def failing(fd, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(fd)

        monkeypatch.setattr(os, "fsync", failing)
        try:
            with stopping_on_full_disk(out):
                do(source, out)
            break
        except RunStopped as stopped:
            said = str(stopped)
        finally:
            monkeypatch.undo()
    assert 3 < n < 199
    assert "run the same command to continue" in said
    assert results(out) == results(reference)


def test_other_os_errors_are_not_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="broken"), stopping_on_full_disk(tmp_path):
        raise OSError(errno.EIO, "broken")


def test_progress_counts_what_an_earlier_start_did(source, tmp_path):
    calls = iter(range(100))
    with pytest.raises(RunStopped):
        do(source, tmp_path / "out", watch=Watch(stop=lambda: next(calls) >= 2))
    told = []
    watch = Watch(progress=told.append)
    do(source, tmp_path / "out", watch=watch)
    assert told[0].rows == 16
    assert told[-1].rows == 50
    assert told[-1].kept + told[-1].rewritten + told[-1].quarantined == 50
    assert watch.fresh_rows == 50 - 12


# -- a model that fails ------------------------------------------------------------------------------------------------


def failing(*rows, again=True):
    """The step's model does not answer when it is asked about one of these rows of a shard."""

    def step(samples):
        if any(s.source.row in rows for s in samples):
            raise CallFailed("HTTP 500", again=again)
        return batch_step(samples)

    return step


@pytest.mark.parametrize("again", [True, False])
def test_a_row_for_which_the_model_fails_takes_no_other_with_it(source, tmp_path, again):
    summary = do(source, tmp_path, make_plan(step=failing(5, again=again)))
    assert summary.rows == summary.out + summary.quarantined == 50
    gone = rows_of(tmp_path / "quarantine/part-0.jsonl")
    assert [(row["source"]["row"], row["reason"], row["detail"]) for row in gone if row["reason"] == "call_failed"] == [
        (5, "call_failed", "HTTP 500")
    ]


def test_a_model_that_is_gone_stops_the_run_which_continues(source, tmp_path):
    """Three rows of one block fail one after the other: nothing of it is journaled, and all of it is done the next time."""
    with pytest.raises(RunStopped, match="failed 3 times in a row.*same command"):
        do(source, tmp_path, make_plan(step=failing(12, 13, 14)))
    summary = do(source, tmp_path)
    assert (summary.rows, dict(summary.reasons).get("call_failed")) == (50, None)


def test_rows_that_a_model_never_takes_do_not_stop_the_run(source, tmp_path):
    summary = do(source, tmp_path, make_plan(step=failing(12, 13, 14, 15, again=False)))
    assert summary.reasons["call_failed"] == 8
