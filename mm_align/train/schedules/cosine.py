"""Cosine decay from the peak to a floor at the last step."""

from __future__ import annotations

import math
from typing import Literal

import pydantic

from .base import Schedule


class CosineSchedule(Schedule):
    """floor + (1 - floor) (1 + cos(pi p)) / 2 with p the share of steps done after the warm-up (SGDR, arXiv 1608.03983, one cycle)."""

    type: Literal["cosine"] = "cosine"
    floor: float = pydantic.Field(0.0, ge=0, le=1, description="Last learning rate as a share of the peak.")

    def after_warmup(self, step: int, total: int) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * self.progress(step, total)))
