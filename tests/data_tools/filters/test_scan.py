"""The scan over shards: what a row is told depends on all shards' scans alone, and what leaves stands for no other row."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.disk.journal import Journal, read_entries, read_lines
from data_tools.filters import FILTERS, FilterStep
from data_tools.filters.audit import audit_fields
from data_tools.filters.rules import parse
from data_tools.filters.scan import Scan, scan_shard
from data_tools.filters.scanned import Scanned
from data_tools.filters.settling import settle
from data_tools.io import list_shards
from data_tools.pipeline import run
from data_tools.run.directory import RunRefused, RunStopped, open_run
from data_tools.run.plan import Plan, Watch
from data_tools.run.seen_ids import judged_ids


@pytest.fixture
def shards(tmp_path):
    """Three shards of captions of 9 letters, of a's 3: a b c / a d / c a, and one broken line. No picture is opened."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "x.png").write_bytes(b"not a picture")
    for name, captions in {"s0": "abc", "s1": "ad", "s2": "ca"}.items():
        lines = [f'{{"image": "x.png", "caption": "{caption * (3 if caption == "a" else 9)}"}}' for caption in captions]
        (folder / f"{name}.jsonl").write_text("\n".join(lines + ["{broken"] * (name == "s1")) + "\n")
    return list_shards(folder)


def made(run_dir, names=("exact.caption_repeats", "exact.caption_copies", "text.chars"), rules=(), **more):
    filters = [FILTERS[room]([n for n in names if n.startswith(room)]) for room in ("text", "exact")]
    scan = Scan(filters, [parse(rule) for rule in rules], block_rows=2)
    step = FilterStep(filters, scan.rules, scanned=Scanned(scan, run_dir))
    return Plan(step, audit_fields, 2, audit_field="filters", keeps_raw=False, scan=scan, look=step.look, **more)


def told(shards, plan, run_dir):
    """All rows' signals in order."""
    return [plan.step.scanned.of(item) for shard in shards for item in plan.read(shard) if hasattr(item, "caption")]


def opened(tmp_path, name="out"):
    return open_run(tmp_path / name, {"config": {}, "source": {}}, [])


def test_rows_are_compared_across_shards_in_their_order(shards, tmp_path):
    with opened(tmp_path) as run_dir:
        plan = made(run_dir)
        run(shards, plan, run_dir, Watch())
        rows = told(shards, plan, run_dir)
        assert [row["exact.caption_repeats"] for row in rows] == [None, None, None, "s0:0", None, "s0:2", "s0:0"]
        assert [row["exact.caption_copies"] for row in rows] == [3, 1, 2, 3, 1, 2, 3]
        assert [row["text.chars"] for row in rows] == [3, 9, 9, 3, 9, 9, 3]


def test_shards_may_be_scanned_in_any_order(shards, tmp_path):
    with opened(tmp_path) as run_dir:
        plan = made(run_dir)
        for shard in reversed(shards):
            scan_shard(shard, plan, run_dir, Watch())
        settle(shards, plan.scan, run_dir)
        assert [row["exact.caption_repeats"] for row in told(shards, plan, run_dir)][3:] == ["s0:0", None, "s0:2", "s0:0"]


@pytest.mark.parametrize("first", ["text.chars < 9", "text.chars in bottom 40%"])
def test_what_leaves_by_a_rule_of_its_own_stands_for_no_other(shards, tmp_path, first):
    """The rule drops every "aaa" (3 of 7 rows, 40 % of them being 2 and a tie), so none is called a copy; of "c" the first stays."""
    with opened(tmp_path) as run_dir:
        plan = made(run_dir, rules=("exact.caption_repeats is known", first))
        run(shards, plan, run_dir, Watch())
        rows = told(shards, plan, run_dir)
        assert [row["exact.caption_repeats"] for row in rows] == [None] * 5 + ["s0:2", None]
        assert [row["exact.caption_copies"] for row in rows] == [0, 1, 2, 0, 1, 2, 0]
        gone = [json.loads(line)["reason"] for line in (tmp_path / "out" / "quarantine" / "s2.jsonl").read_text().splitlines()]
        assert gone == ["rule:exact.caption_repeats is known", f"rule:{first}"]


def test_a_share_of_all_rows_is_cut_over_all_shards(shards, tmp_path):
    with opened(tmp_path) as run_dir:
        plan = made(run_dir, rules=("exact.caption_copies > 1 and text.chars in top 50%",))
        run(shards, plan, run_dir, Watch())
        assert list(plan.step.scanned.cuts.values()) == [9.0]


def test_a_stopped_scan_goes_on_where_it_was(shards, tmp_path):
    with opened(tmp_path) as run_dir:
        plan, asked = made(run_dir), []

        def stop():
            asked.append(1)
            return len(asked) == 1

        with pytest.raises(RunStopped):
            run(shards, plan, run_dir, Watch(stop))
        before = run_dir.scan_journal("s0").read_bytes()
        assert before
        run(shards, plan, run_dir, Watch())
        assert run_dir.scan_journal("s0").read_bytes().startswith(before)
        assert [row["exact.caption_copies"] for row in told(shards, plan, run_dir)] == [3, 1, 2, 3, 1, 2, 3]


def test_rows_judged_by_their_scan_come_out_as_those_that_are_read_again(shards, tmp_path, monkeypatch):
    """And the source is read twice in place of three times: for the scan, and for what is written."""
    reads = []
    monkeypatch.setattr(Plan, "read", lambda plan, shard, skip=0, read=Plan.read: reads.append(shard.name) or read(plan, shard, skip))
    rules = ("text.chars < 9", "exact.caption_repeats is known")
    for name, by_scan in {"again": False, "scan": True}.items():
        with opened(tmp_path, name) as run_dir:
            run(shards, made(run_dir, rules=rules, by_scan=by_scan), run_dir, Watch())
    assert reads == ["s0", "s1", "s2"] + ["s0", "s0", "s1", "s1", "s2", "s2"] + ["s0", "s1", "s2"] * 2
    files = [sorted(p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*.jsonl")) for name in ("again", "scan")]
    results = [path for path in files[0] if "journal" not in path.parts]
    assert files[0] == files[1]
    assert len(results) > 5
    assert [path for path in results if (tmp_path / "again" / path).read_bytes() != (tmp_path / "scan" / path).read_bytes()] == []


def test_a_stopped_judgement_by_the_scan_goes_on_within_a_block(shards, tmp_path):
    with opened(tmp_path) as run_dir, opened(tmp_path, "whole") as other:
        plan = made(run_dir, by_scan=True)
        run(shards, made(other, by_scan=True), other, Watch())
        for shard in shards:
            scan_shard(shard, plan, run_dir, Watch())
        settle(shards, plan.scan, run_dir)
        first = next(iter(read_lines(other.journal("s0"))))
        with Journal(run_dir.journal("s0")) as journal:
            journal.append(first.entries()[:1], first.ids[:8])  # by a start whose blocks had one row
        run(shards, plan, run_dir, Watch())
        assert [*read_entries(run_dir.journal("s0"))] == [*read_entries(other.journal("s0"))]
        assert judged_ids(shards[0], run_dir).tolist() == judged_ids(shards[0], other).tolist()


@pytest.mark.parametrize(("by_scan", "said"), [(False, "row 2 of shard 's2' was not scanned"), (True, "holds more than the 2 rows")])
def test_a_source_that_grew_after_its_scan_is_refused(shards, tmp_path, monkeypatch, by_scan, said):
    """Even where the file's times do not tell."""
    monkeypatch.setattr("data_tools.run.steady._state", lambda path: ())
    with opened(tmp_path) as run_dir:
        plan = made(run_dir, by_scan=by_scan)
        for shard in shards:
            scan_shard(shard, plan, run_dir, Watch())
        with Path(shards[2].path).open("a") as file:
            file.write('{"image": "x.png", "caption": "new"}\n')
        with pytest.raises(RunRefused, match=said):
            run(shards, plan, run_dir, Watch())


def test_marks_hold_arrays_and_no_objects(shards, tmp_path):
    with opened(tmp_path) as run_dir:
        scan_shard(shards[0], made(run_dir), run_dir, Watch())
        with np.load(run_dir.scan_marks("s0"), allow_pickle=False) as arrays:
            assert arrays["exact"].shape == (3, 1)  # of captions alone
            assert arrays["leaves"].tolist() == [False] * 3
