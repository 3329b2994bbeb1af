"""The peak learning rate from the end of the warm-up to the end of the run."""

from __future__ import annotations

from typing import Literal

from .base import Schedule


class ConstantSchedule(Schedule):
    """1 after the warm-up."""

    type: Literal["constant"] = "constant"

    def after_warmup(self, step: int, total: int) -> float:
        return 1.0
