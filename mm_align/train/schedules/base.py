"""What every learning-rate schedule is: a config whose `lr_factor` is a pure function of the step and the run's length."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import pydantic

from ...config import JobConfig


class Schedule(JobConfig, ABC):
    """A schedule as YAML writes it. Steps count from 0; the factor is of the peak learning rate of each parameter group.

    A length (`warmup`, `decay`) below 1 is a share of all steps, rounded up; 1 and above it is a number of steps.
    """

    type: str
    warmup: float = pydantic.Field(0.03, ge=0, description="Steps of linear warm-up: below 1 a share of all steps, else their number.")

    @pydantic.field_validator("warmup", "decay", check_fields=False)
    @classmethod
    def _share_or_steps(cls, length: float) -> float:
        if length > 1 and length != int(length):
            raise ValueError("should be a share below 1 or a whole number of steps")
        return length

    def lr_factor(self, step: int, total: int) -> float:
        """Learning rate over its peak at `step` of `total`: step / warm-up while warming up; after `total` it stays.

        ValueError where the phases are longer than the run.
        """
        warmup = self.warmup_steps(total)
        if warmup > total:
            raise ValueError(f"a warm-up of {warmup} steps is longer than the run of {total}; lower `warmup` or train longer")
        return step / warmup if step < warmup else self.after_warmup(min(step, total), total)

    def warmup_steps(self, total: int) -> int:
        """Steps of the warm-up in a run of `total`."""
        return steps_of(self.warmup, total)

    @abstractmethod
    def after_warmup(self, step: int, total: int) -> float:
        """The factor at warm-up <= step <= total."""

    def progress(self, step: int, total: int) -> float:
        """Share of the steps after the warm-up that are done, 0 to 1."""
        warmup = self.warmup_steps(total)
        return (step - warmup) / max(1, total - warmup)


def steps_of(length: float, total: int) -> int:
    """A share of `total` below 1 (rounded up), a number of steps from 1 on."""
    return int(length) if length >= 1 else math.ceil(length * total)
