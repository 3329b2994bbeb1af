"""Warmup-stable-decay of MiniCPM (arXiv 2404.06395): a long run at the peak and a short decay at its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pydantic

from .base import Schedule, steps_of

SHAPES: dict[str, Callable[[float], float]] = {  # share of the decay done -> from 1 to 0
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "1-sqrt": lambda done: 1 - math.sqrt(done),
}


class WsdSchedule(Schedule):
    """s / W while warming up, 1 while stable, f(s - T) over the last `decay` steps (T: where they start).

    shape `exp`: f(k) = 0.5^(k / half_life), the paper's; without half_life it is decay / log2(1 / floor), so that the run
    ends at the floor; with one, f stops at the floor. linear, cosine, 1-sqrt: floor + (1 - floor) x shape, as transformers'
    get_wsd_schedule. Paper: a decay of about 10 % of all tokens is enough, and its example ends near a tenth of the peak.
    """

    type: Literal["wsd"] = "wsd"
    decay: float = pydantic.Field(0.1, ge=0, description="Steps of decay at the end: below 1 a share of all steps, else their number.")
    shape: Literal["exp", "linear", "cosine", "1-sqrt"] = pydantic.Field("exp", description="Form of the decay.")
    floor: float = pydantic.Field(0.1, ge=0, le=1, description="Last learning rate as a share of the peak.")
    half_life: float | None = pydantic.Field(
        None, gt=0, description="Shape exp: steps to half the rate; default: reach the floor at the end."
    )

    @pydantic.model_validator(mode="after")
    def _fits(self) -> WsdSchedule:
        if self.half_life is not None and self.shape != "exp":
            raise ValueError(f"half_life belongs to shape exp; shape {self.shape} has none")
        if self.shape == "exp" and self.half_life is None and self.floor == 0:
            raise ValueError("shape exp never reaches 0: give a floor above 0, or a half_life")
        return self

    def decay_start(self, total: int) -> int:
        """The last step at the peak. ValueError where warm-up and decay do not fit into `total`."""
        start = total - steps_of(self.decay, total)
        if start < self.warmup_steps(total):
            raise ValueError(
                f"a warm-up of {self.warmup_steps(total)} and a decay of {total - start} steps are longer than the run of {total}; "
                f"lower `warmup` or `decay`, or train longer"
            )
        return start

    def after_warmup(self, step: int, total: int) -> float:
        start = self.decay_start(total)
        return 1.0 if step <= start else self._decayed(step - start, total - start)

    def _decayed(self, done: int, length: int) -> float:
        if self.shape == "exp":
            return max(self.floor, 0.5 ** (done / self._half_life(length)))
        return self.floor + (1 - self.floor) * SHAPES[self.shape](done / length)

    def _half_life(self, length: int) -> float:
        if self.half_life is not None:
            return self.half_life
        return length / math.log2(1 / self.floor) if self.floor < 1 else math.inf
