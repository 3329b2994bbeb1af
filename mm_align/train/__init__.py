"""Training: one thin trainer for every objective."""

from .optim import PARTS, parameter_groups, train_only
from .trainer import ObjectiveTrainer

__all__ = ["PARTS", "ObjectiveTrainer", "parameter_groups", "train_only"]
