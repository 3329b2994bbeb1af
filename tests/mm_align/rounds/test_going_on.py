"""Rounds that end early: killed, stopped, without pairs, with a training that fails; more rounds, other settings, a model that is gone."""

import json
from pathlib import Path

import pytest
from pretended import START, Killed, World

from mm_align.config import Stopped, UserError
from mm_align.jobs.rounds.rounds import rounds
from mm_align.jobs.train.results import TrainReport

KILLS = [("feedback", 1), ("feedback", 3), ("train", 2), *(("load", n) for n in range(1, 8))]


@pytest.mark.parametrize("fail", KILLS, ids=str)
def test_a_kill_anywhere_changes_nothing(config, data, fail):
    undisturbed = rounds(config(out=str(data / "calm")), World().parts)
    with pytest.raises(Killed):
        rounds(config(), World(fail).parts)
    second = World()
    report = rounds(config(), second.parts)
    assert [{k: v for k, v in one.items() if k != "model"} for one in report.rounds] == [
        {k: v for k, v in one.items() if k != "model"} for one in undisturbed.rounds
    ]
    assert (data / "out/rounds.json").read_text() == (data / "calm/rounds.json").read_text().replace("/calm/", "/out/")
    again = World()
    rounds(config(), again.parts)
    assert again.calls == []


def test_more_rounds_go_on_where_it_ended(config):
    rounds(config(rounds=1, images_per_round=3), World().parts)
    world = World()
    report = rounds(config(rounds=3, images_per_round=3), world.parts)
    assert world.calls.count("train") == 2
    assert len(report.rounds) == 4
    rounds(config(rounds=1, images_per_round=3, overwrite=True), World().parts)
    assert sorted(path.name for path in Path(config().out).glob("round-*")) == ["round-0", "round-1"]


def test_another_configuration_is_refused_and_overwrite_starts_anew(config, data):
    rounds(config(rounds=1, images_per_round=3), World().parts)
    with pytest.raises(UserError, match="config.judge: was 'somebody/judge', now 'self'"):
        rounds(config(judge="self"), World().parts)
    with pytest.raises(UserError, match="images_per_round: was 3, now 4"):
        rounds(config(), World().parts)
    world = World()
    rounds(config(judge="self", overwrite=True, rounds=2), world.parts)
    assert [c.judge for c in world.seen["feedback"]] == [START, str(data / "out/round-1/train/model")]
    assert not (data / "out/round-3").exists()


def test_a_round_without_pairs_ends_the_run(config, data, caplog):
    class Satisfied(World):
        def feedback(self, config):
            self.pairs = 6 if "round-1" in config.out else 0
            return super().feedback(config)

    report = rounds(config(), Satisfied().parts)
    assert report.exit_code == 1
    assert report.model == str(data / "out/round-1/train/model")
    assert "error: round 2: no pairs to train on: of 1 scored answers" in caplog.text
    assert len(json.loads((data / "out/rounds.json").read_text())["rounds"]) == 2


def test_a_training_that_fails_ends_the_run(config, caplog):
    class Diverged(World):
        def train(self, config):
            return TrainReport(Path(config.out), exit_code=1)

    assert rounds(config(), Diverged().parts).exit_code == 1
    assert "error: round 1: training failed" in caplog.text


def test_a_stop_between_parts_is_taken_at_the_next_round(config):
    import signal

    class Stopping(World):
        def train(self, config):
            signal.raise_signal(signal.SIGTERM)
            return super().train(config)

    with pytest.raises(Stopped, match="stopped before round 2; the same command continues"):
        rounds(config(), Stopping().parts)
    assert len(rounds(config(), World().parts).rounds) == 4


def test_a_model_that_is_gone_is_told(config, data):
    rounds(config(rounds=1, images_per_round=3), World().parts)
    (data / "out/round-1/train/model").rmdir()
    with pytest.raises(UserError, match="tells of the model .*round-1/train/model, which is gone"):
        rounds(config(rounds=1, images_per_round=3), World().parts)


def test_checkpoints_go_where_they_are_not_to_be_kept(config, data):
    rounds(config(keep_checkpoints=False), World().parts)
    assert not list((data / "out").glob("round-*/train/checkpoints"))
    assert (data / "out/round-3/train/model").is_dir()
