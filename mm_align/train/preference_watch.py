"""Watches preference training for what DPO is known to do (arXiv 2406.07327): chosen answers fall, and mass goes to answers nobody saw."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger(__name__)
FALLS = 3  # log entries in a row in which the chosen answers fall while the margin grows
ADVICE = (
    "while the margin grows: mass moves to answers that no pair holds. What helps: objective.sft_weight, preset flex_dpo, a lower "
    "learning rate, fewer epochs, pairs of the model's own answers"
)
LOOKS = 16  # times in a run that the probe is asked


class PreferenceDynamics(TrainerCallback):
    """Warns once when the chosen answers' log-probability falls below the reference's, and further from one log entry to the next, while
    the margin between chosen and rejected answers still grows.

    probe: gives numbers about answers that belong to no pair; `tell` logs them, before the first step and about LOOKS times in a run.
    """

    def __init__(
        self,
        probe: Callable[[], dict[str, float]] | None = None,
        tell: Callable[[dict[str, float]], None] | None = None,
        *,
        falls: int = FALLS,
    ) -> None:
        self.probe, self.tell, self.falls = probe, tell, falls
        self.drift = self.margin = 0.0  # of the last entry; both start at 0
        self.in_a_row = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._look()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % max(1, state.max_steps // LOOKS) == 0 or state.global_step >= state.max_steps:
            self._look()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        entry = state.log_history[-1]
        if "chosen_drift" not in entry or "reward_margin" not in entry:
            return
        drift, margin = entry["chosen_drift"], entry["reward_margin"]
        falling = drift < min(self.drift, 0.0) and margin > self.margin
        self.in_a_row = self.in_a_row + 1 if falling else 0
        self.drift, self.margin = drift, margin
        if self.in_a_row == self.falls and state.is_world_process_zero:
            self.falls = 0  # said once
            log.warning("step %d: chosen answers fall (log-probability %.3g below the reference) %s", state.global_step, -drift, ADVICE)

    def _look(self) -> None:
        if self.probe is not None and self.tell is not None:
            self.tell(self.probe())
