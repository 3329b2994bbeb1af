"""Makes our classes known to AutoConfig, AutoModel..., AutoProcessor, AutoImageProcessor and pipelines."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from vision.images import SquareImageProcessor

from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .lvlm_model import LvlmModel
from .processor import LvlmProcessor


def register() -> None:
    """Idempotent. Without the processor's line, `AutoProcessor.from_pretrained` would silently return the tokenizer."""
    AutoConfig.register(LvlmConfig.model_type, LvlmConfig, exist_ok=True)
    AutoModel.register(LvlmConfig, LvlmModel, exist_ok=True)
    AutoModelForImageTextToText.register(LvlmConfig, LvlmForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(LvlmConfig, LvlmProcessor, exist_ok=True)
    backends = {"pil": SquareImageProcessor, "torchvision": SquareImageProcessor}  # one class, whatever backend is asked for
    AutoImageProcessor.register(LvlmConfig, image_processor_classes=backends, exist_ok=True)
