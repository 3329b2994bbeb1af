"""The tables of filters: room of signals -> class; each tells named values of a row, none decides.

FILTERS need no model and are made with the names that are wanted; SCORERS are made with a model and the names.
"""

from typing import Any

from .aesthetic import AestheticFilter
from .base import Filter, Signals, Value, kinds_of
from .exact import ExactSignals
from .image import ImageSignals
from .mlm_filter import MlmFilter
from .near_text import NearTextSignals
from .nsfw import NsfwFilter
from .ocr import OcrFilter
from .perceptual import PerceptualSignals
from .pii import PiiSignals
from .rights import RightsSignals
from .similarity import SimilarityFilter
from .step import FilterStep
from .text import TextSignals

FILTERS: dict[str, type[Filter]] = {
    "image": ImageSignals,
    "text": TextSignals,
    "exact": ExactSignals,
    "near_text": NearTextSignals,
    "perceptual": PerceptualSignals,
    "pii": PiiSignals,
    "rights": RightsSignals,
}
SCORERS: dict[str, Any] = {
    "mlm": MlmFilter,
    "similarity": SimilarityFilter,
    "aesthetic": AestheticFilter,
    "nsfw": NsfwFilter,
    "ocr": OcrFilter,
}

__all__ = ["FILTERS", "SCORERS", "Filter", "FilterStep", "Signals", "Value", "kinds_of"]
