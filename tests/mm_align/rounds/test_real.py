"""Rounds with nothing pretended: bundled models through the door, a model that judges itself, training in processes of its own."""

import json
import math

import pytest

from mm_align.cli import main
from mm_align.config import Stopped, load


def test_a_command_that_fails_or_is_stopped():
    import os
    import signal
    import sys
    import threading

    from mm_align.jobs.rounds.launch import wait

    assert wait([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert wait([sys.executable, "-c", ""]) == 0
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped, match="training was stopped"):
        wait([sys.executable, "-c", "import time; time.sleep(30)"])


@pytest.mark.slow
def test_training_in_two_processes(tmp_path, capfd):
    """torchrun takes the config that is written beside the run, and what is wrong in it is told."""
    from mm_align.jobs.rounds.launch import train_in
    from mm_align.jobs.train.config import TrainConfig

    config = {"model": {"from": "tiny-lvlm"}, "data": [{"path": str(tmp_path / "none")}], "out": str(tmp_path / "run"), "device": "cpu"}
    report = train_in(2)(load(TrainConfig, config))
    assert report.exit_code == 1
    assert "No such file or folder" in capfd.readouterr().err
    assert (tmp_path / "run.yaml").is_file()


def test_a_round_with_bundled_models_through_the_door(tmp_path, capsys, reported):
    """Six drawn scenes, two checkpoints; the chosen one answers, the figures are those of its answers, and again there is nothing to do."""
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert main(["scenes", "make", "--n", "6", "--poor-share", "0", "--out", str(scenes)]) == 0
    suite = f"eval=[{{type: objects, data: {scenes}, vocabulary: {scenes}/vocabulary.json, max_tokens: 40, limit: 3}}]"
    feedback = "feedback={candidates: {n: 3, max_tokens: 40}, scores: {by: p_yes}, pairs: {min_difference: 0.001, balance: false}}"
    training = "train={lr: 1.0e-4, epochs: 1, batch_size: 6, precision: fp32}"
    words = ["rlaif", "rounds", "--model", "tiny-lvlm", "--judge", "tiny-judge", "--data", str(scenes), "--out", str(out), "--rounds", "1"]
    words += ["--checks", "1", "--drift-rows", "2", "--device", "cpu", "--set", suite, "--set", feedback, "--set", training]
    told = reported(*words)
    assert main(words) == 0
    assert f"model: {out}/round-1/train/model, report: {out}/rounds.html" in capsys.readouterr().out
    _, last = json.loads((out / "rounds.json").read_text())["rounds"]
    assert told == {"out": str(out), "model": f"{out}/round-1/train/model", "rounds": told["rounds"], "exit_code": 0}
    assert told["rounds"][1]["figures"] == last["figures"]
    assert last["feedback"]["pairs"] > 6
    assert last["selected_value"] == last["figures"]["objects/hallucinating"]
    assert all(value is not None and math.isfinite(value) for value in last["drift"].values())
    assert last["drift"]["chosen"] > last["drift"]["rejected"]
    assert last["drift"]["kl_step"] == last["drift"]["kl_start"]


def test_a_model_that_judges_itself(tmp_path, capsys):
    """tiny-lvlm answers questions with yes and no too."""
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert main(["scenes", "make", "--n", "2", "--poor-share", "0", "--out", str(scenes)]) == 0
    feedback = "feedback={candidates: {n: 3, max_tokens: 40}, scores: {by: p_yes}, pairs: {min_difference: 0.0001, balance: false}}"
    words = ["rlaif", "rounds", "--model", "tiny-lvlm", "--judge", "self", "--data", str(scenes), "--out", str(out), "--rounds", "1"]
    words += ["--drift-rows", "0", "--device", "cpu", "--set", feedback, "--set", "train={steps: 1, precision: fp32}"]
    assert main(words) == 0
    assert json.loads((out / "round-1/round.json").read_text())["drift"] == {
        "chosen": None, "rejected": None, "kl_step": None, "kl_start": None, "kl_start_token": None,
    }  # fmt: skip
    assert (out / "round-1/train/model/config.json").is_file()
