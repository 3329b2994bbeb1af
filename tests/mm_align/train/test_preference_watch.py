"""The watch over preference training: when it warns, and how often its probe is asked."""

import logging
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from data_tools.preference import write_pairs
from data_tools.records import Message, Part, PreferencePair, Sample
from mm_align.losses.answer_logps import answer_logps
from mm_align.train.pair_data import PairCollator, pair_set
from mm_align.train.preference_watch import LOOKS, PreferenceDynamics, unseen_answers, unseen_batch
from mm_align.train.sources import Source


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


def test_it_warns_once_though_they_rise_and_fall_again(caplog: pytest.LogCaptureFixture) -> None:
    falls = [entry(-0.1 * k, 0.1 * k) for k in range(1, 5)]
    with caplog.at_level(logging.WARNING, logger="mm_align"):
        logged(PreferenceDynamics(), [*falls, entry(0.5, 0.5), *falls, entry(0.0, 0.0)])
    assert len(caplog.records) == 1


def test_a_continued_run_knows_the_entries_before_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Two falls before it, one after."""
    state = TrainerState(is_world_process_zero=True)
    state.log_history = [{"step": k, **entry(-0.1 * k, 0.1 * k)} for k in (1, 2, 3)]
    with caplog.at_level(logging.WARNING, logger="mm_align"):
        PreferenceDynamics().on_log(None, state, TrainerControl())
    assert len(caplog.records) == 1


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
    """At step 0, then every 100 / 16 = 6 steps and at the last; the drift is since the first look."""
    told: list[dict[str, float]] = []
    state, looks = TrainerState(max_steps=100), count()

    def tell(found: dict[str, float]) -> None:
        told.append(found)
        state.log_history.append({"step": state.global_step, **found})

    watch = PreferenceDynamics(lambda: {"unseen_logp": -5.0 + next(looks)}, tell)
    steps(watch, state, 1)
    assert LOOKS <= len(told) - 1 <= LOOKS + 2
    assert told[0] == {"unseen_logp": -5.0, "unseen_drift": 0.0}
    assert told[2] == {"unseen_logp": -3.0, "unseen_drift": 2.0}


def test_the_probe_is_asked_no_more_often_than_losses_are_logged() -> None:
    told: list[dict[str, float]] = []
    steps(PreferenceDynamics(lambda: {"unseen_logp": 0.0}, told.append), TrainerState(max_steps=10), 5)
    assert len(told) == 3


def steps(watch: PreferenceDynamics, state: TrainerState, logging_steps: int) -> None:
    args = SimpleNamespace(logging_steps=logging_steps)
    watch.on_train_begin(args, state, TrainerControl())
    for step in range(1, state.max_steps + 1):
        state.global_step = step
        watch.on_step_end(args, state, TrainerControl())


def test_unseen_answers_are_those_to_other_prompts(tmp_path: Path, tiny_model: Any, processor: Any) -> None:
    """Three prompts: each with the answers to the two others. A model that knows nothing of the batch gives what it always gives."""
    path = tmp_path / "pairs.jsonl"
    asked = [Sample(name, (Message("user", (Part("text", f"{name}? "),)),)) for name in ("one", "two", "three")]
    write_pairs(path, [PreferencePair(sample, f"chosen {sample.id}", "no") for sample in asked])
    data = pair_set([Source(path=str(path))], processor, quarantine=tmp_path / "gone.jsonl")
    batch = unseen_batch(data, PairCollator(processor))
    texts = [
        processor.tokenizer.decode(ids[mask], skip_special_tokens=True)
        for ids, mask in zip(batch["answer_ids"], batch["answer_mask"], strict=True)
    ]
    assert texts == ["chosen two", "chosen three", "chosen one", "chosen three", "chosen one", "chosen two"]
    found = unseen_answers(tiny_model, batch)
    sums = answer_logps(tiny_model, batch).sum(-1)
    assert found["unseen_logp"] == pytest.approx(sums.mean().item())
    assert found["unseen_logp_per_token"] == pytest.approx((sums / batch["answer_mask"].sum(-1)).mean().item())
    assert not tiny_model.training


def test_two_prompts_have_too_few_other_answers(tmp_path: Path, processor: Any) -> None:
    asked = [Sample(name, (Message("user", (Part("text", f"{name}? "),)),)) for name in ("one", "two")]
    write_pairs(tmp_path / "pairs.jsonl", [PreferencePair(sample, f"chosen {sample.id}", "no") for sample in asked])
    data = pair_set([Source(path=str(tmp_path / "pairs.jsonl"))], processor, quarantine=tmp_path / "gone.jsonl")
    assert unseen_batch(data, PairCollator(processor)) is None
