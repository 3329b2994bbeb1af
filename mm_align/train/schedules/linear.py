"""Linear decay from the peak to a floor at the last step."""

from __future__ import annotations

from typing import Literal

import pydantic

from .base import Schedule


class LinearSchedule(Schedule):
    """1 - (1 - floor) p with p the share of steps done after the warm-up."""

    type: Literal["linear"] = "linear"
    floor: float = pydantic.Field(0.0, ge=0, le=1, description="Last learning rate as a share of the peak.")

    def after_warmup(self, step: int, total: int) -> float:
        return 1 - (1 - self.floor) * self.progress(step, total)
