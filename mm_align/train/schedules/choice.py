"""A schedule chosen by its `type`, as a field of a config or from a plain mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from ...config import JobConfig, load
from .base import Schedule
from .constant import ConstantSchedule
from .cosine import CosineSchedule
from .linear import LinearSchedule
from .wsd import WsdSchedule


def _type_of(config: Any) -> str:
    return config.get("type", "cosine") if isinstance(config, dict) else getattr(config, "type", "")


# {type: wsd, decay: 0.2}; without a type it is the cosine.
ScheduleConfig = Annotated[
    Annotated[CosineSchedule, pydantic.Tag("cosine")]
    | Annotated[LinearSchedule, pydantic.Tag("linear")]
    | Annotated[ConstantSchedule, pydantic.Tag("constant")]
    | Annotated[WsdSchedule, pydantic.Tag("wsd")],
    pydantic.Discriminator(
        _type_of, custom_error_type="schedule", custom_error_message="its type should be one of cosine, linear, constant, wsd"
    ),
]


class _Chosen(JobConfig):
    schedule: ScheduleConfig


def build_schedule(options: Mapping[str, Any]) -> Schedule:
    """The schedule of {type, options}. UserError for an unknown type or option, naming the nearest."""
    return load(_Chosen, {"schedule": dict(options)}).schedule
