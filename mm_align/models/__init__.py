"""The models, known to the Auto classes of transformers once this module is imported."""

from .register import register

register()

from .lvlm import IGNORE, LvlmConfig, LvlmForConditionalGeneration, LvlmModel, LvlmOutput  # noqa: E402
from .processor import Encoded, LvlmProcessor  # noqa: E402

__all__ = ["IGNORE", "Encoded", "LvlmConfig", "LvlmForConditionalGeneration", "LvlmModel", "LvlmOutput", "LvlmProcessor"]
