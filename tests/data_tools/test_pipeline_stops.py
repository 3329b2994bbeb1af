"""The pipeline when it is stopped, when the disk is full, when the source changes or the model fails; and going on after that."""

import errno
import os

import pytest
from pipeline_cases import batch_step, do, make_plan, results, rows_of, write_source

from data_tools.calls import CallFailed
from data_tools.disk.journal import Journal
from data_tools.pipeline import stopping_on_full_disk
from data_tools.run.directory import RunRefused, RunStopped
from data_tools.run.plan import Watch


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


@pytest.fixture
def timeless(monkeypatch):
    """Files whose times tell nothing, as where a run goes on in another process."""
    monkeypatch.setattr("data_tools.run.steady._state", lambda path: ())


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


# A model that fails


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
