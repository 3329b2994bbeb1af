"""The table of encoders: library -> how its towers are read."""

from .base import Encoder, TowerFacts
from .choice import encoder_for, facts_of, tower_config
from .transformers_ import TransformersEncoder

ENCODERS: dict[str, type[Encoder]] = {"transformers": TransformersEncoder}

__all__ = ["ENCODERS", "Encoder", "TowerFacts", "TransformersEncoder", "encoder_for", "facts_of", "tower_config"]
