"""The table of filters: room of signals -> class; each tells named values of a row, none decides."""

from .base import Filter, Signals, Value, kinds_of
from .image import ImageSignals
from .step import FilterStep
from .text import TextSignals

FILTERS: dict[str, type[Filter]] = {"image": ImageSignals, "text": TextSignals}

__all__ = ["FILTERS", "Filter", "FilterStep", "Signals", "Value", "kinds_of"]
