"""Finds the encoder of a tower, and a tower's facts, from its config."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from . import transformers_
from .base import Encoder, TowerFacts


def encoder_for(tower: nn.Module, *, layer: int = -2, keep_cls: bool = False) -> Encoder:
    """The encoder that reads `tower` (see `Encoder` for `layer` and `keep_cls`)."""
    return transformers_.TransformersEncoder(tower, layer, keep_cls)


def facts_of(config: PreTrainedConfig) -> TowerFacts:
    """Width, grid and prefix of the tower that `config` describes."""
    return transformers_.facts(config)


def tower_config(described: PreTrainedConfig | dict[str, Any]) -> PreTrainedConfig:
    """A config object from a dict with "model_type"; ValueError for another dict."""
    if isinstance(described, PreTrainedConfig):
        return described
    described = dict(described)
    model_type = described.pop("model_type", None)
    if model_type is None:
        raise ValueError(f"a vision config needs 'model_type' or 'library', got the keys {sorted(described)}")
    return AutoConfig.for_model(model_type, **described)
