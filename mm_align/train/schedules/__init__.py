"""The table of learning-rate schedules: the `type` key of a schedule config -> class; free of torch."""

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

__all__ = ["SCHEDULES", "Schedule"]
