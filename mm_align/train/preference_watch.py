"""Watches preference training for what DPO is known to do (arXiv 2406.07327): chosen answers fall, and mass goes to answers nobody saw."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data_tools.io.refusals import RowError
from data_tools.records import PreferencePair

from ..losses.answer_logps import answer_logps
from ..models import LvlmProcessor
from ..models.pairs import PreparedPair, prepare_pair
from .callbacks import own_log
from .pair_data import PairCollator, PairSet

log = logging.getLogger(__name__)
FALLS = 3  # log entries in a row in which the chosen answers fall while the margin grows
ADVICE = (
    "while the margin grows: mass moves to answers that no pair holds. What helps: objective.sft_weight, preset flex_dpo, a lower "
    "learning rate, fewer epochs, pairs of the model's own answers"
)
LOOKS = 16  # times in a run that the probe is asked
PROMPTS = 8  # of the probe, each with two answers to other prompts
UNSEEN = "unseen_logp"


class Point(NamedTuple):
    """What a log entry says of the chosen answers and of the margin."""

    drift: float
    margin: float


class PreferenceDynamics(TrainerCallback):
    """Warns once when the chosen answers' log-probability falls below the reference's, and further from one log entry to the next, while
    the margin between chosen and rejected answers still grows.

    probe: log-probabilities of answers that belong to no pair (`unseen_answers`); `tell` logs them, with `unseen_drift` since the
    first look, before the first step and about LOOKS times in a run, though never more often than the losses.
    """

    def __init__(
        self,
        probe: Callable[[], Mapping[str, float]] | None = None,
        tell: Callable[[dict[str, float]], None] | None = None,
        *,
        falls: int = FALLS,
    ) -> None:
        self.probe, self.tell, self.falls = probe, tell, falls
        self.warned = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._look(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        every = max(1, int(args.logging_steps), state.max_steps // LOOKS)
        if state.global_step % every == 0 or state.global_step >= state.max_steps:
            self._look(state, control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        found = [Point(e["chosen_drift"], e["reward_margin"]) for e in state.log_history if "chosen_drift" in e and "reward_margin" in e]
        recent = [Point(0.0, 0.0), *found][-self.falls - 1 :]
        if self.warned or len(recent) <= self.falls or not all(map(_falls, pairwise(recent))):
            return
        self.warned = True
        if state.is_world_process_zero:
            below = -recent[-1].drift
            log.warning("step %d: chosen answers fall (log-probability %.3g below the reference) %s", state.global_step, below, ADVICE)

    def _look(self, state: TrainerState, control: TrainerControl) -> None:
        if self.probe is None or self.tell is None:
            return
        found = dict(self.probe())
        first = next((entry[UNSEEN] for entry in state.log_history if UNSEEN in entry), found[UNSEEN])
        with own_log(control):
            self.tell({**found, "unseen_drift": found[UNSEEN] - first})


def _falls(points: tuple[Point, Point]) -> bool:
    before, now = points
    return now.drift < min(before.drift, 0.0) and now.margin > before.margin


@torch.no_grad()
def unseen_answers(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """How likely a model finds the answers of `batch` (see `unseen_batch`): `unseen_logp`, the mean log-probability of one, and the
    same per token. In the toy of the paper it is to answers of other prompts that the mass of the chosen ones goes."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        logps = answer_logps(model, {key: value.to(device) for key, value in batch.items()})
    finally:
        model.train(was_training)
    sums, lengths = logps.sum(-1), batch["answer_mask"].sum(-1).to(logps)
    return {UNSEEN: sums.mean().item(), f"{UNSEEN}_per_token": (sums / lengths).mean().item()}


def unseen_batch(data: PairSet, collate: PairCollator, count: int = PROMPTS) -> dict[str, torch.Tensor] | None:
    """Prompts from all over `data`, each with the chosen answers to two of the others; None where too few differ."""
    rows = range(0, len(data.store), max(1, len(data.store) // count))[:count]
    answers = [data.store.sample(row).messages[-1].parts[0].text for row in rows]
    mixed = []
    for place, pair in enumerate(data.pairs(rows)):
        others = [text for text in dict.fromkeys([*answers[place + 1 :], *answers[:place]]) if text != answers[place]]
        if pair is not None and len(others) > 1:
            mixed += _prepared(PreferencePair(pair.sample, others[0], others[1]), collate.processor)
    return PairCollator(collate.processor, layout=collate.layout)(mixed) if mixed else None


def _prepared(pair: PreferencePair, processor: LvlmProcessor) -> list[PreparedPair]:
    """The pair, or nothing where two texts are the same tokens."""
    try:
        return [prepare_pair(pair, processor)]
    except RowError:
        return []
