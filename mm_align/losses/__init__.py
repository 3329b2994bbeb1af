"""The table of objectives: the `type` key of a loss config -> class."""

from .base import IGNORE, Batch, LossOutput, Objective, ObjectiveSetup
from .eeca import EecaObjective
from .lm import LmObjective

OBJECTIVES: dict[str, type[Objective]] = {"lm": LmObjective, "eeca": EecaObjective}

__all__ = ["IGNORE", "OBJECTIVES", "Batch", "EecaObjective", "LmObjective", "LossOutput", "Objective", "ObjectiveSetup"]
