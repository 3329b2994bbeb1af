"""The table of learning-rate schedules: the `type` key of a schedule config -> class; free of torch."""

from typing import Annotated, Any

import pydantic

from .base import Schedule
from .constant import ConstantSchedule
from .cosine import CosineSchedule
from .linear import LinearSchedule
from .wsd import WsdSchedule

SCHEDULES: dict[str, type[Schedule]] = {
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "constant": ConstantSchedule,
    "wsd": WsdSchedule,
}


def _type_of(config: Any) -> str:
    return config.get("type", "cosine") if isinstance(config, dict) else getattr(config, "type", "")


# For a field of a job's config: {type: wsd, decay: 0.2}; without a type it is the cosine.
ScheduleConfig = Annotated[
    Annotated[CosineSchedule, pydantic.Tag("cosine")]
    | Annotated[LinearSchedule, pydantic.Tag("linear")]
    | Annotated[ConstantSchedule, pydantic.Tag("constant")]
    | Annotated[WsdSchedule, pydantic.Tag("wsd")],
    pydantic.Discriminator(
        _type_of, custom_error_type="schedule", custom_error_message=f"its type should be one of {', '.join(SCHEDULES)}"
    ),
]

__all__ = ["SCHEDULES", "Schedule", "ScheduleConfig"]
