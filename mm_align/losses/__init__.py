"""The table of objectives: the `type` key of a loss config -> class."""

from .base import IGNORE, Batch, LossOutput, Objective, ObjectiveSetup
from .lm import LmObjective

OBJECTIVES: dict[str, type[Objective]] = {"lm": LmObjective}

__all__ = ["IGNORE", "OBJECTIVES", "Batch", "LmObjective", "LossOutput", "Objective", "ObjectiveSetup"]
