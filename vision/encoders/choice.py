"""Finds the encoder of a tower, and a tower's facts, from its config."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ..tokens import TokenFacts
from . import external, transformers_
from .base import Encoder
from .external import ExternalTower, ExternalTowerConfig


def encoder_for(tower: nn.Module, *, layer: int = -2, keep_cls: bool = False) -> Encoder:
    """The encoder that reads `tower` (see `Encoder` for `layer` and `keep_cls`)."""
    from . import ENCODERS  # the table imports this module

    library = tower.config.library if isinstance(tower, ExternalTower) else "transformers"
    return ENCODERS[library](tower, layer, keep_cls)


def facts_of(config: PreTrainedConfig, layer: int = -1) -> TokenFacts:
    """Width, grid and prefix of the tower that `config` describes; they depend on `layer` where it has stages (ConvNeXt)."""
    return external.facts(config, layer) if isinstance(config, ExternalTowerConfig) else transformers_.facts(config)


def has_no_class_token(config: PreTrainedConfig) -> bool:
    """Whether it is known before the tower runs that it gives patches alone; of other families of transformers it is not."""
    known = isinstance(config, ExternalTowerConfig) or config.model_type in transformers_.FAMILIES
    return known and facts_of(config).prefix == 0


def tower_config(described: PreTrainedConfig | dict[str, Any]) -> PreTrainedConfig:
    """A config object from a dict with "model_type" (transformers) or "library"; ValueError for another dict.

    Of a model of pictures and texts ("clip", "siglip", "siglip2") it is the vision part.
    """
    if isinstance(described, PreTrainedConfig):
        return transformers_.vision_part(described)
    described = dict(described)
    model_type = described.pop("model_type", None)
    library = described.get("library")
    if model_type == ExternalTowerConfig.model_type or library not in (None, "transformers"):
        if "kwargs" in described:  # the name people write; a config may not have a field of it
            described["model_kwargs"] = described.pop("kwargs")
        return ExternalTowerConfig(**described)
    described.pop("library", None)
    if model_type is None:
        raise ValueError(f"a vision config needs 'model_type' or 'library', got the keys {sorted(described)}")
    return transformers_.vision_part(AutoConfig.for_model(model_type, **described))


def register() -> None:
    """Makes towers of other libraries known to AutoConfig and AutoModel of transformers."""
    AutoConfig.register(ExternalTowerConfig.model_type, ExternalTowerConfig, exist_ok=True)
    AutoModel.register(ExternalTowerConfig, ExternalTower, exist_ok=True)
