"""What happens beside the steps of training: a log in lines, whole checkpoints, evaluations, a stop when asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .checkpoints import Best, keep_last, mark_whole, note

log = logging.getLogger(__name__)
MACHINE = ("_runtime", "_per_second")  # tells of the machine, not of the model


class LogFile(TrainerCallback):
    """Every entry of the log as a line of JSON. A continued run drops the lines after its checkpoint first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.path.write_text("".join(map(_line, state.log_history)), encoding="utf-8")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(state.log_history[-1]))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps({"step": entry.get("step"), **entry}) + "\n"


class LogLines(TrainerCallback):
    """Every entry of the log as a line for people, where no progress bar shows them."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        entry = state.log_history[-1]
        if state.is_world_process_zero and args.disable_tqdm and "train_runtime" not in entry:
            log.info("step %d/%d: %s", state.global_step, state.max_steps, shown(entry))


def shown(entry: Mapping[str, Any]) -> str:
    """The numbers of a log entry, four digits each."""
    told = {name: value for name, value in entry.items() if name not in ("step", "epoch") and not name.endswith(MACHINE)}
    return ", ".join(f"{name} {value:.4g}" for name, value in told.items() if isinstance(value, int | float))


class Limit(NamedTuple):
    """The worst value that a logged name should have; `lower`: less is better."""

    name: str
    worst: float
    lower: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.worst if self.lower else value >= self.worst


class Selection(NamedTuple):
    """The logged name that the best checkpoint has the highest of (or, with `lower`, the lowest), among those within all `limits`
    where there is one. later: of equal ones the last."""

    name: str
    lower: bool = False
    limits: tuple[Limit, ...] = ()
    later: bool = False


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint when it is complete, notes the best one by `chosen`, removes old ones."""

    def __init__(self, folder: Path, keep: int, chosen: Selection | None = None) -> None:
        self.folder, self.keep, self.chosen = folder, keep, chosen

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        mark_whole(self.folder / f"checkpoint-{state.global_step}")
        if self.chosen is not None:
            self._note(self.chosen, state)
        keep_last(self.folder, self.keep)

    def _note(self, chosen: Selection, state: TrainerState) -> None:
        logged = {name: value for entry in state.log_history if entry["step"] == state.global_step for name, value in entry.items()}
        if chosen.name in logged:
            holds = all(limit.name in logged and limit.holds(logged[limit.name]) for limit in chosen.limits)
            note(self.folder, Best(state.global_step, logged[chosen.name], holds), lower=chosen.lower, later=chosen.later)


class Evaluations(TrainerCallback):
    """Calls `evaluate(step)` at every evaluation: beside the evaluation loss where there is one, else every `steps` steps and at the end.

    saves: a checkpoint is written at every evaluation, so that the best one is there to be chosen.
    """

    def __init__(self, evaluate: Callable[[int], None], steps: int, *, beside_loss: bool, saves: bool) -> None:
        self.evaluate, self.steps, self.beside_loss, self.saves = evaluate, steps, beside_loss, saves

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._do(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self.beside_loss and (state.global_step % self.steps == 0 or state.global_step >= state.max_steps):
            self._do(state, control)

    def _do(self, state: TrainerState, control: TrainerControl) -> None:
        with own_log(control):
            self.evaluate(state.global_step)
        control.should_save = control.should_save or self.saves


@contextmanager
def own_log(control: TrainerControl) -> Iterator[None]:
    """Whatever is logged inside takes no step's own entry away: the library counts every entry as the one that was due."""
    due = control.should_log
    yield
    control.should_log = due


class StopWhenAsked(TrainerCallback):
    """After a step in which a stop was asked for: a checkpoint, then the end of training. All processes stop at the same step."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked
        self.stopped = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and self._anywhere(args):
            self.stopped = control.should_save = control.should_training_stop = True

    def _anywhere(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self.asked()
        flag = torch.tensor(float(self.asked()), device=args.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag.item())
