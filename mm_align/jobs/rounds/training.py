"""The training of a round: how many steps to an evaluation, which checkpoint is taken, and what can be refused before the first round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError
from ..train.suites import check_selection, lower_is_better, suites
from .config import SELF, feedback_config, train_config

if TYPE_CHECKING:
    from ..train.config import TrainConfig
    from ..train.results import TrainReport
    from .config import RoundsConfig


CHOICE = ("step", "selected_by", "selected_value", "within_limits")  # what training says of the checkpoint that it took


class Failed(Exception):
    """A round cannot be finished, and the same command would fail again."""


def check(config: RoundsConfig) -> None:
    """UserError for what would end a later part: models that cannot be, options that no part has, a selection by nothing."""
    from ...backends.load import find_name
    from ..train.setup import check_options

    for name in {config.model, config.judge} - {SELF}:
        find_name(name)
    feedback_config(config, 1, config.model, "rows.jsonl", config.out)
    built = suites(config.eval)
    suites(config.test)
    unknown = dict.fromkeys(config.select.lose, 0.0)  # the start model's figures
    training = train_config(config, 1, run_settings(config, "pairs.jsonl", config.model, 1, config.out, unknown))
    check_options(training)
    check_objective(training)
    check_selection(training, built)
    if config.select.lose and not config.eval:
        raise UserError("select.lose compares checkpoints with the start model: give `eval`")


def check_objective(training: TrainConfig) -> None:
    """UserError for an objective that reads no pairs, or does not have the options it is given."""
    from ...losses import ObjectiveSetup
    from ..train.objective import objective_class

    made = objective_class(training)
    if made.records != "pairs":
        raise UserError(f"train.objective: rounds train on pairs, which '{training.objective['type']}' does not read; use preference")
    options = {key: value for key, value in training.objective.items() if key != "type"}
    try:
        made.from_options(options, ObjectiveSetup(lambda text: [], 1, lambda: ()))
    except (ValueError, TypeError) as error:
        raise UserError(f"train.objective: {error}") from error


def trained(
    config: RoundsConfig,
    number: int,
    model: str,
    pairs: Path,
    count: int,
    folder: Path,
    start: Mapping[str, Any],
    train: Callable[[TrainConfig], TrainReport],
) -> dict[str, Any]:
    """Train, and what was chosen: {"model", "step", "selected_by", "selected_value"}. Raises Failed.

    start: what is known of the start model, which `select.lose` is reckoned from.
    """
    from data_tools.disk.durable import read_json

    from ..train.folder import FINISHED

    report = train(train_config(config, number, run_settings(config, str(pairs), model, count, str(folder), limits(config, start))))
    if report.exit_code:
        raise Failed("training failed; what was said above says why")
    told = read_json(folder.joinpath(*FINISHED)) or {}
    return {"model": str(folder / "model")} | {key: told[key] for key in CHOICE if key in told}


def run_settings(config: RoundsConfig, pairs: str, model: str, count: int, out: str, worst: Mapping[str, float]) -> dict[str, Any]:
    """What the rounds say of a training on `count` pairs: `checks` evaluations an epoch, by which the checkpoint is chosen."""
    batch = int(config.train.get("batch_size") or 8)
    steps = math.ceil(count / batch)  # of an epoch
    each = max(1, round(steps / config.checks))
    run: dict[str, Any] = {"out": out, "model": {"from": model}, "data": [{"path": pairs}], "save_steps": each}
    if config.eval:
        by = config.select.by or main_metric(config)
        run |= {"eval_suites": config.eval, "eval_steps": each, "select_by": by, "select_limits": dict(worst)}
    return run


def main_metric(config: RoundsConfig) -> str:
    """What stands for the first suite."""
    name, suite = next(iter(suites(config.eval[:1]).items()))
    return f"{name}/{suite.main}"


def limits(config: RoundsConfig, start: Mapping[str, Any]) -> dict[str, float]:
    """The worst values a checkpoint may have: the start model's, and what may be lost."""
    built = suites(config.eval) if config.select.lose else {}
    figures: Mapping[str, float] = start.get("chosen_by", {})
    return {name: figures[name] + (lost if lower_is_better(name, built) else -lost) for name, lost in config.select.lose.items()}
