"""A schedule chosen by its `type`, as a field of a config or from a plain mapping."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from ...config import JobConfig, load
from .base import Schedule
from .constant import ConstantSchedule
from .cosine import CosineSchedule
from .linear import LinearSchedule
from .wsd import WsdSchedule

TYPES = ("cosine", "linear", "constant", "wsd")


def _type_of(config: Any) -> str:
    return config.get("type", "cosine") if isinstance(config, dict) else getattr(config, "type", "")


def _known_type(config: Any) -> Any:
    """ValueError for an unknown type, with the nearest."""
    kind = str(_type_of(config))
    if kind not in TYPES:
        near = difflib.get_close_matches(kind, TYPES, 1, cutoff=0.5)
        raise ValueError(f"its type should be one of {', '.join(TYPES)}" + (f"; did you mean '{near[0]}'?" if near else ""))
    return config


# {type: wsd, decay: 0.2}; without a type it is the cosine.
ScheduleConfig = Annotated[
    Annotated[CosineSchedule, pydantic.Tag("cosine")]
    | Annotated[LinearSchedule, pydantic.Tag("linear")]
    | Annotated[ConstantSchedule, pydantic.Tag("constant")]
    | Annotated[WsdSchedule, pydantic.Tag("wsd")],
    pydantic.Discriminator(_type_of),
    pydantic.BeforeValidator(_known_type),
]


class _Chosen(JobConfig):
    schedule: ScheduleConfig


def build_schedule(options: Mapping[str, Any]) -> Schedule:
    """The schedule of {type, options}. UserError for an unknown type or option, naming the nearest."""
    return load(_Chosen, {"schedule": dict(options)}).schedule
