"""Runs of `mmalign train` that were cut short or stopped: the same command goes on, and the weights are those of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time

import pytest
from train_runs import assert_same, logged, train, weights


def test_a_run_cut_short_ends_with_the_weights_of_an_undisturbed_one(recipe, tmp_path, monkeypatch):
    """The first start dies while checkpoint 4 is being written: it counts for nothing, and the second goes on from 2."""
    from mm_align.train import callbacks

    real = callbacks.mark_whole

    def die(checkpoint):
        if checkpoint.name == "checkpoint-4":
            raise SystemExit(9)
        real(checkpoint)

    assert train(recipe(), tmp_path / "whole") == 0
    monkeypatch.setattr(callbacks, "mark_whole", die)
    with pytest.raises(SystemExit):
        train(recipe(), tmp_path / "cut")
    assert len(logged(tmp_path / "cut")) == 4
    monkeypatch.setattr(callbacks, "mark_whole", real)
    assert train(recipe(), tmp_path / "cut") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    numbers = [[(e["step"], e["loss"]) for e in logged(tmp_path / out) if "loss" in e] for out in ("whole", "cut")]
    assert numbers[0] == numbers[1]


def test_a_stop_signal_leaves_a_checkpoint_and_exit_code_75(recipe, tmp_path, monkeypatch, capsys):
    from mm_align.train.callbacks import LogFile

    real = LogFile.on_log

    def stop_at_three(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LogFile, "on_log", stop_at_three)
    assert train(recipe(), tmp_path / "out") == 75
    assert "the same command continues" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()
    monkeypatch.setattr(LogFile, "on_log", real)
    assert train(recipe(), tmp_path / "out") == 0
    assert train(recipe(), tmp_path / "whole") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_run_killed_before_its_export_only_exports(recipe, tmp_path, monkeypatch):
    from mm_align.jobs.train import results as train_results

    monkeypatch.setattr(train_results, "export", lambda *a: (_ for _ in ()).throw(SystemExit(9)))
    with pytest.raises(SystemExit):
        train(recipe(), tmp_path / "out")
    monkeypatch.undo()
    steps = len(logged(tmp_path / "out"))
    assert train(recipe(), tmp_path / "out") == 0
    assert len(logged(tmp_path / "out")) == steps
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(recipe, tmp_path):
    """Killed at once when its log has so many lines; the weights are those of an undisturbed run."""
    path, log = recipe(steps=12), tmp_path / "out" / "log.jsonl"
    command = [sys.executable, "-m", "mm_align", "train", path, "--out", str(tmp_path / "out"), "--quiet"]
    for lines in (3, 8):
        process = subprocess.Popen(command)
        while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) >= lines):
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, check=False).returncode == 0
    assert train(path, tmp_path / "whole") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
