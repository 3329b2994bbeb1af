"""The table of objectives: the `type` key of a loss config -> class."""

from .base import IGNORE, Batch, LossOutput, Objective, ObjectiveSetup
from .eeca import EecaObjective
from .lm import LmObjective
from .preference import PreferenceObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "lm": LmObjective,
    "eeca": EecaObjective,
    "preference": PreferenceObjective,
}

__all__ = [
    "IGNORE",
    "OBJECTIVES",
    "Batch",
    "EecaObjective",
    "LmObjective",
    "LossOutput",
    "Objective",
    "ObjectiveSetup",
    "PreferenceObjective",
]
