"""The table of encoders: library -> how its towers are read."""

from .base import Encoder
from .choice import encoder_for, facts_of, has_no_class_token, register, tower_config
from .external import ExternalTower, ExternalTowerConfig
from .load import load_tower, lora_targets
from .open_clip_ import OpenClipEncoder
from .timm_ import TimmEncoder
from .transformers_ import TransformersEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "transformers": TransformersEncoder,
    "timm": TimmEncoder,
    "open_clip": OpenClipEncoder,
}

register()

__all__ = [
    "ENCODERS",
    "Encoder",
    "ExternalTower",
    "ExternalTowerConfig",
    "encoder_for",
    "facts_of",
    "has_no_class_token",
    "load_tower",
    "lora_targets",
    "tower_config",
]
