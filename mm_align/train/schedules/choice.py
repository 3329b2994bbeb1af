"""A schedule chosen by its `type`, as a field of a config or from a plain mapping."""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from ...config import JobConfig, load
from . import SCHEDULES
from .base import Schedule

if TYPE_CHECKING:
    Known = Schedule
else:
    Known = functools.reduce(operator.or_, SCHEDULES.values())


def _with_type(config: Any) -> Any:
    """Without a type it is the cosine. ValueError for an unknown one, with the nearest."""
    told = {"type": "cosine"} | config if isinstance(config, dict) else config
    kind = str(told["type"] if isinstance(told, dict) else getattr(told, "type", ""))
    if kind not in SCHEDULES:
        near = difflib.get_close_matches(kind, SCHEDULES, 1, cutoff=0.5)
        raise ValueError(f"its type should be one of {', '.join(SCHEDULES)}" + (f"; did you mean '{near[0]}'?" if near else ""))
    return told


ScheduleConfig = Annotated[Known, pydantic.Field(discriminator="type"), pydantic.BeforeValidator(_with_type)]  # {type: wsd, decay: 0.2}


class _Chosen(JobConfig):
    schedule: ScheduleConfig


def build_schedule(options: Mapping[str, Any]) -> Schedule:
    """The schedule of {type, options}. UserError for an unknown type or option, naming the nearest."""
    return load(_Chosen, {"schedule": dict(options)}).schedule
