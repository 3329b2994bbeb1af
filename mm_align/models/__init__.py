"""The models, known to the Auto classes of transformers once this module is imported."""

from .batch import Prepared, collate, collate_packs
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .lvlm_model import LvlmModel, LvlmOutput
from .processor import Encoded, LvlmProcessor
from .register import register

register()

__all__ = [
    "Encoded",
    "LvlmConfig",
    "LvlmForConditionalGeneration",
    "LvlmModel",
    "LvlmOutput",
    "LvlmProcessor",
    "Prepared",
    "collate",
    "collate_packs",
]
