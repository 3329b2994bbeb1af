"""Training: one thin trainer for every objective. Names below are imported when first used: configs need no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .optim import PARTS, parameter_groups, train_only
    from .trainer import ObjectiveTrainer

_LAZY = {"PARTS": ".optim", "parameter_groups": ".optim", "train_only": ".optim", "ObjectiveTrainer": ".trainer"}
__all__ = ["PARTS", "ObjectiveTrainer", "parameter_groups", "train_only"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mm_align.train' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name], __name__), name)
