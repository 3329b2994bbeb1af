"""The objective that a run's config names: its class, whether it reads pairs, and itself, seeded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ...config import UserError
from ...options import nearest

if TYPE_CHECKING:
    from ...losses import Objective
    from ...models import LvlmProcessor
    from ...train.data import TrainingSet
    from .config import TrainConfig


def objective_class(config: TrainConfig) -> type[Objective]:
    """The class of the objective that the config names. UserError for an unknown type, with the nearest known."""
    from ...losses import OBJECTIVES

    kind = str(config.objective.get("type"))
    if kind not in OBJECTIVES:
        raise UserError(f"unknown objective type '{kind}'; {nearest(kind, list(OBJECTIVES))}")
    return OBJECTIVES[kind]


def reads_pairs(config: TrainConfig) -> bool:
    """Whether the config's objective reads preference pairs."""
    return objective_class(config).records == "pairs"


def make_objective(config: TrainConfig, model: Any, processor: LvlmProcessor, data: TrainingSet) -> Objective:
    """The objective that the config names, seeded. UserError for an unknown type or option, with the nearest known."""
    from transformers import set_seed

    from ...losses import ObjectiveSetup

    kind, made = str(config.objective.get("type")), objective_class(config)
    options = {key: value for key, value in config.objective.items() if key != "type"}
    set_seed(config.seed)
    try:
        return made.from_options(options, ObjectiveSetup(processor.text_ids, model.config.text_config.hidden_size, data.samples))
    except (ValueError, OSError) as error:
        raise UserError(f"objective {kind}: {error}") from error
    except TypeError as error:
        known = [name for name, p in inspect.signature(made).parameters.items() if p.kind is p.KEYWORD_ONLY]
        wrong = next((option for option in options if f"'{option}'" in str(error)), None)
        raise UserError(
            f"objective {kind} has no option '{wrong}'; {nearest(wrong, known)}" if wrong else f"objective {kind}: {error}"
        ) from error
