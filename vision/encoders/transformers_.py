"""Reads vision towers of the transformers library, running only the layers that are needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig

from ..tokens import TokenFacts
from .base import Encoder, layers_needed, parameters_of

_PREFIX = {"siglip_vision_model": 0, "siglip2_vision_model": 0, "clip_vision_model": 1, "vit": 1, "dinov2": 1}
_LAYER_BY_LAYER = ("siglip_vision_model", "clip_vision_model")


@dataclass(frozen=True)
class TransformersEncoder(Encoder):
    """SigLIP and CLIP run layer by layer up to the one asked for (bit-equal to `hidden_states[layer]`); any other vision
    model runs whole and gives its `hidden_states`."""

    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.tower.config.model_type not in _LAYER_BY_LAYER:
            return self._from_whole_tower(pixel_values)
        layers = self.tower.encoder.layers
        hidden = self.tower.embeddings(pixel_values)
        if hasattr(self.tower, "pre_layrnorm"):  # CLIP's own spelling
            hidden = self.tower.pre_layrnorm(hidden)
        for layer in layers[: layers_needed(self.layer, len(layers))]:
            hidden = layer(hidden, None)
        return hidden

    def _from_whole_tower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        states = self.tower(pixel_values, output_hidden_states=True).hidden_states
        layers_needed(self.layer, len(states) - 1)
        return states[self.layer]

    def unread(self) -> list[nn.Parameter]:
        """For SigLIP and CLIP; of another tower nothing is known to be unread."""
        if self.tower.config.model_type not in _LAYER_BY_LAYER:
            return []
        layers = self.tower.encoder.layers
        after = layers[layers_needed(self.layer, len(layers)) :]
        return parameters_of(after, self.tower.post_layernorm, getattr(self.tower, "head", None))

    def grid(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        patch = _pair(self.tower.config.patch_size)
        return pixel_values.shape[-2] // patch[0], pixel_values.shape[-1] // patch[1]


def facts(config: PreTrainedConfig) -> TokenFacts:
    """Width, grid and class tokens from a vision config; ValueError for a config that does not name its sizes."""
    missing = [key for key in ("hidden_size", "image_size", "patch_size") if getattr(config, key, None) is None]
    if missing:
        raise ValueError(f"the vision config '{config.model_type}' has no {', '.join(missing)}: it cannot serve as a patch tower")
    image, patch = _pair(config.image_size), _pair(config.patch_size)
    prefix = _PREFIX.get(config.model_type, 0) + getattr(config, "num_register_tokens", 0)
    return TokenFacts(config.hidden_size, (image[0] // patch[0], image[1] // patch[1]), prefix)


def _pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
