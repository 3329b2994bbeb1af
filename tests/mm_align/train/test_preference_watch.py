"""The watch over preference training: when it warns, and how often its probe is asked."""

import logging

import pytest
from transformers import TrainerControl, TrainerState

from mm_align.train.preference_watch import LOOKS, PreferenceDynamics


def logged(watch: PreferenceDynamics, entries: list[dict[str, float]]) -> None:
    state = TrainerState(is_world_process_zero=True)
    for step, entry in enumerate(entries, 1):
        state.global_step = step
        state.log_history.append({"step": step, **entry})
        watch.on_log(None, state, TrainerControl())


def entry(drift: float, margin: float) -> dict[str, float]:
    return {"chosen_drift": drift, "reward_margin": margin}


def test_it_warns_once_when_chosen_answers_fall_while_the_margin_grows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mm_align"):
        logged(PreferenceDynamics(), [entry(-0.1 * k, 0.1 * k) for k in range(1, 9)])
    assert len(caplog.records) == 1
    assert "step 3: chosen answers fall" in caplog.text
    assert "0.3 below the reference" in caplog.text


@pytest.mark.parametrize(
    "entries",
    [
        [entry(0.1 * k, 0.2 * k) for k in range(9)],  # chosen answers rise
        [entry(-0.1 * k, -0.1 * k) for k in range(9)],  # the margin shrinks
        [entry(-1.0, 0.1 * k) for k in range(9)],  # they fell once and stay
        [entry(0.5 - 0.01 * k, 0.1 * k) for k in range(9)],  # less above the reference than before, but above
        [{"loss": 1.0}] * 9,  # no preference objective
    ],
)
def test_it_is_silent_otherwise(entries: list[dict[str, float]], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mm_align"):
        logged(PreferenceDynamics(), entries)
    assert not caplog.records


def test_the_probe_is_asked_at_the_start_and_about_as_often_as_said() -> None:
    told: list[dict[str, float]] = []
    watch = PreferenceDynamics(lambda: {"unseen_drift": 0.0}, told.append)
    state = TrainerState(max_steps=100)
    watch.on_train_begin(None, state, TrainerControl())
    for step in range(1, 101):
        state.global_step = step
        watch.on_step_end(None, state, TrainerControl())
    assert LOOKS <= len(told) - 1 <= LOOKS + 2
    assert told[0] == {"unseen_drift": 0.0}
