"""`mmalign enhance-data` once more: finished runs, other wishes, stops by signals and full disks, and going on."""

import errno
import json
import os
import signal

import pytest
from engine_faults import results
from scripted_enhance import Scripted, command, plain_rows, rows_of, stop_at, write_rows

import mm_align
import mm_align.backends
from mm_align.config import Stopped


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "src", plain_rows())


def test_a_finished_run_says_so(quality_model, source, tmp_path, capsys):
    command(source, tmp_path / "out")
    before, judged = results(tmp_path / "out"), len(quality_model.rows)
    assert command(source, tmp_path / "out") == 0
    assert "already finished" in capsys.readouterr().err
    assert (results(tmp_path / "out"), len(quality_model.rows)) == (before, judged)


@pytest.mark.parametrize("name", ["rows.jsonl", "quarantine/rows.jsonl"])
def test_a_finished_run_without_its_output_is_not_finished(quality_model, source, tmp_path, name, capsys):
    command(source, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    assert command(source, tmp_path / "out") == 2
    assert f"lacks what its run made: {name}" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--overwrite") == 0
    assert (tmp_path / "out" / name).exists()


def test_another_configuration_or_source_is_refused(quality_model, source, tmp_path, capsys):
    command(source, tmp_path / "out")
    assert command(source, tmp_path / "out", "--policy", "never") == 2
    assert "config.policy: was 'model', now 'never'" in capsys.readouterr().err
    write_rows(source, plain_rows(11))
    assert command(source, tmp_path / "out") == 2
    assert "the source changed" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--overwrite") == 0
    assert len(rows_of(tmp_path / "out" / "rows.jsonl")) == 11


def test_another_model_is_refused(quality_model, source, tmp_path, monkeypatch, capsys):
    stop_at(quality_model, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert command(source, tmp_path / "out") == 75
    monkeypatch.setattr(Scripted, "describe", lambda self: {"model": "null", "revision": "other"})
    assert command(source, tmp_path / "out") == 2
    assert "model.revision: was '0', now 'other'" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_block_and_the_same_command_continues(quality_model, source, tmp_path, number, capsys):
    """Blocks of 4 rows: a signal in row 5 still commits rows 4 to 7, and the next start begins with row 8."""
    command(source, tmp_path / "whole")
    stop_at(quality_model, 5, lambda: os.kill(os.getpid(), number))
    quality_model.rows.clear()
    assert command(source, tmp_path / "out") == 75
    assert "run the same command to continue" in capsys.readouterr().err
    assert max(quality_model.rows) == 7
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    quality_model.rows.clear()
    assert command(source, tmp_path / "out") == 0
    assert quality_model.rows == [8, 9]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["run"]["timing"]["this_start_rows_judged"] == 2
    assert results(tmp_path / "out") == results(tmp_path / "whole")


def test_a_full_disk_stops_and_the_same_command_continues(quality_model, source, tmp_path, monkeypatch, capsys):
    command(source, tmp_path / "whole")
    write = os.write

    def full(fd, data):
        if len(data) > 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    code = command(source, tmp_path / "out")
    monkeypatch.setattr(os, "write", write)
    assert code == 75
    assert "free some space" in capsys.readouterr().err
    assert command(source, tmp_path / "out") == 0
    assert results(tmp_path / "out") == results(tmp_path / "whole")


def test_stopping_in_python(source, tmp_path):
    backend = Scripted()
    stop_at(backend, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="continue"):
        mm_align.enhance(source, tmp_path / "out", backend=backend)
    assert mm_align.enhance(source, tmp_path / "out", backend=backend).fresh_rows == 6


def test_less_memory_is_remembered(source, tmp_path, monkeypatch):
    """The backend went from 4 rows to 2; a continued run keeps blocks of 4 and asks the backend for 2."""
    backend, asked = Scripted(batch_size=4), []

    def shrink():
        backend.batch_size = 2
        os.kill(os.getpid(), signal.SIGTERM)

    def load(model, **options):
        asked.append(options["batch_size"])
        return backend

    monkeypatch.setattr(mm_align.backends, "load_backend", load)
    stop_at(backend, 1, shrink)
    assert [command(source, tmp_path / "out") for _ in range(2)] == [75, 0]
    assert asked == ["auto", 2]
