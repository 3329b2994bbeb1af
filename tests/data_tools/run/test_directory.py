"""A run's directory: taken, continued, refused or started anew; nothing that is not ours is ever deleted."""

import errno
import os
from pathlib import Path

import pytest

from data_tools.disk.durable import put_in_place, write_atomic
from data_tools.run.directory import RunRefused, fingerprint, open_run

BINDING = {"config": {"policy": "model", "guards": {"max": 3}}, "source": {"a": "3 bytes, x"}}
OUTPUTS = ["a.jsonl", "quarantine/a.jsonl"]


def start(root, binding=BINDING, **options):
    """A start that judges something."""
    with open_run(root, binding, OUTPUTS, **options) as run_dir:
        run_dir.journal("a").touch()
        return run_dir


def test_new_unfinished_finished(tmp_path):
    root = tmp_path / "deep" / "out"
    assert start(root).condition == "new"
    assert start(root).condition == "unfinished"
    with open_run(root, BINDING, OUTPUTS) as run_dir:
        run_dir.finish({"rows": 3})
    again = start(root)
    assert again.condition == "finished"
    assert again.finished() == {"rows": 3}


def test_an_option_of_a_later_version_that_is_not_given_is_no_difference(tmp_path):
    start(tmp_path / "out")
    later = {**BINDING, "config": {**BINDING["config"], "new_option": None}}
    assert start(tmp_path / "out", later).condition == "unfinished"


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    start(tmp_path / "out")
    other = {**BINDING, "config": {"policy": "never", "guards": {"max": 3}, "limit": 5}}
    with pytest.raises(RunRefused) as refused:
        start(tmp_path / "out", other)
    text = str(refused.value)
    assert "config.policy: was 'model', now 'never'" in text
    assert "config.limit: was 'nothing', now 5" in text
    assert "guards" not in text
    assert "--overwrite" in text


def test_a_changed_source_is_named(tmp_path):
    start(tmp_path / "out")
    with pytest.raises(RunRefused, match="the source changed"):
        start(tmp_path / "out", {**BINDING, "source": {"a": "4 bytes, y"}})


def test_a_model_bound_later_must_stay(tmp_path):
    with open_run(tmp_path / "out", BINDING, OUTPUTS) as run_dir:
        run_dir.bind("model", {"revision": "1"})
        run_dir.journal("a").touch()
    with open_run(tmp_path / "out", BINDING, OUTPUTS) as run_dir:
        run_dir.bind("model", {"revision": "1"})
        with pytest.raises(RunRefused, match="model.revision: was '1', now '2'"):
            run_dir.bind("model", {"revision": "2"})


def test_a_foreign_directory_is_refused_even_with_overwrite(tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    (root / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunRefused, match=r"thesis\.tex"):
            start(root, overwrite=overwrite)
    assert (root / "thesis.tex").read_text() == "years of work"
    assert [p.name for p in root.iterdir()] == ["thesis.tex"]


def test_overwrite_deletes_ours_only(tmp_path):
    root = tmp_path / "out"
    with open_run(root, BINDING, OUTPUTS) as run_dir:
        for name in (*OUTPUTS, "report.html", "mine.txt"):
            (root / name).write_text("x")
        run_dir.mark_done("a", {})
    fresh = start(root, {**BINDING, "config": {}}, overwrite=True)
    assert fresh.condition == "new"
    assert fresh.done("a") is None
    left = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and ".mmalign" not in p.parts}
    assert left == {"mine.txt"}


def test_a_name_that_is_taken_by_another_is_refused(tmp_path):
    root = tmp_path / "out"
    start(root)
    (root / "b.jsonl").write_text("somebody's")
    with pytest.raises(RunRefused, match=r"b\.jsonl.*not made by this run"), open_run(root, {}, ["b.jsonl"], overwrite=True):
        pass
    assert (root / "b.jsonl").read_text() == "somebody's"


def test_an_unwritable_target_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunRefused, match="cannot write to"):
        start(tmp_path / "file" / "out")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG])
def test_a_target_that_cannot_be_made_is_said_so(tmp_path, monkeypatch, number):
    """As under /proc, on a read-only disk, without rights."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path / "out"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunRefused, match=rf"cannot write to .*: {os.strerror(number)}"):
        start(tmp_path / "out")


@pytest.mark.parametrize("content", ["{ cut of", "[1]", "\x00\x00"])
def test_a_broken_record_is_said_so(tmp_path, content):
    start(tmp_path / "out")
    (tmp_path / "out" / "a.jsonl").write_text("ours or not")
    (tmp_path / "out" / ".mmalign" / "run.json").write_text(content)
    for overwrite in (False, True):
        with pytest.raises(RunRefused, match=r"run\.json' cannot be read.*delete '.*out' yourself"):
            start(tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "a.jsonl").exists()


def test_what_a_run_made_must_be_there(tmp_path):
    run_dir = start(tmp_path / "out")
    made = [f"{i}.jsonl" for i in range(5)]
    run_dir.output("0", ".jsonl").write_text("")
    with pytest.raises(RunRefused, match=r": 1\.jsonl, 2\.jsonl, 3\.jsonl and 1 more\. .*--overwrite"):
        run_dir.refuse_missing(made)
    run_dir.refuse_missing(made[:1])


def test_a_target_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("text")
    with pytest.raises(RunRefused, match="cannot write to|no mmalign run made"):
        start(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "text"


def test_two_runs_at_once_are_refused(tmp_path):
    pytest.importorskip("fcntl")
    with open_run(tmp_path / "out", BINDING, OUTPUTS), pytest.raises(RunRefused, match="another mmalign run"):
        start(tmp_path / "out")
    assert start(tmp_path / "out").condition == "new"


def test_errors_inside_a_run_are_not_mistaken_for_an_unwritable_target(tmp_path):
    with pytest.raises(PermissionError, match="source"), open_run(tmp_path / "out", BINDING, OUTPUTS):
        raise PermissionError(13, "source is not readable")


def test_a_start_killed_before_its_record_is_free(tmp_path):
    (tmp_path / "out" / ".mmalign").mkdir(parents=True)
    assert start(tmp_path / "out").condition == "new"


def test_fingerprints_know_content_not_times(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(b"x" * 200_000)
    assert fingerprint(str(one)) == fingerprint(str(two))
    two.write_bytes(b"x" * 199_999 + b"y")
    assert fingerprint(str(one)) != fingerprint(str(two))
    folder = tmp_path / "folder"
    folder.mkdir()
    empty = fingerprint(str(folder))
    (folder / "a").write_text("1")
    assert fingerprint(str(folder)) != empty
    assert fingerprint("datasets:name") == "datasets:name"


def test_a_directory_is_put_in_place_whole(tmp_path):
    for name, text in (("made", "new"), ("final", "old")):
        (tmp_path / name).mkdir()
        write_atomic(tmp_path / name / "f", text.encode())
    put_in_place(tmp_path / "made", tmp_path / "final")
    assert (tmp_path / "final" / "f").read_text() == "new"
    assert not (tmp_path / "made").exists()


def test_a_start_that_judged_nothing_binds_nobody(tmp_path):
    """A misspelt model fails before the first row; the corrected command must not be refused as another configuration."""
    with open_run(tmp_path / "out", BINDING, OUTPUTS) as run_dir:
        write_atomic(run_dir.root / "config.yaml", b"x")
    other = start(tmp_path / "out", {**BINDING, "config": {"policy": "never"}})
    assert (other.condition, other.record["config"]) == ("new", {"policy": "never"})
