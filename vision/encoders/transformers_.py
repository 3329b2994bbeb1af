"""Reads vision towers of the transformers library, running only the layers that are needed."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig

from ..tokens import TokenFacts
from .base import Encoder, layers_needed, parameters_of


class Family(NamedTuple):
    """Where models of a type keep their parts.

    prefix: class tokens (registers come on top). layers: run one by one. unread: what no layer's output depends on.
    asks: position embeddings are interpolated only when asked to.
    """

    prefix: int
    layers: str
    unread: tuple[str, ...]
    asks: bool = False


FAMILIES = {
    "siglip_vision_model": Family(0, "encoder.layers", ("post_layernorm", "head"), asks=True),
    "siglip2_vision_model": Family(0, "encoder.layers", ("post_layernorm", "head")),
    "clip_vision_model": Family(1, "encoder.layers", ("post_layernorm",), asks=True),
    "vit": Family(1, "layers", ("layernorm", "pooler", "embeddings.mask_token"), asks=True),
    "dinov2": Family(1, "encoder.layer", ("layernorm", "embeddings.mask_token")),
    "dinov2_with_registers": Family(1, "encoder.layer", ("layernorm", "embeddings.mask_token")),
    "dinov3_vit": Family(1, "model.layer", ("norm", "embeddings.mask_token")),
}
NAFLEX = "siglip2_vision_model"  # takes patches, not pixels


@dataclass(frozen=True)
class TransformersEncoder(Encoder):
    """The types of `FAMILIES` run layer by layer up to the one asked for, bit-equal to `hidden_states[layer]`; any other vision
    model runs whole and gives its `hidden_states`. Pictures of another size than the tower was made for are read with its own
    interpolation of positions."""

    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        family = FAMILIES.get(self._type)
        if family is None:
            return self._from_whole_tower(pixel_values)
        layers = part_of(self.tower, family.layers)
        needed = layers[: layers_needed(self.layer, len(layers))]
        hidden = self._embedded(pixel_values, family)
        if self._type == "dinov3_vit":
            rotary = self.tower.rope_embeddings(pixel_values)
            for layer in needed:
                hidden = layer(hidden, position_embeddings=rotary)
            return hidden
        for layer in needed:
            hidden = layer(hidden, None)
        return hidden

    def _embedded(self, pixel_values: torch.Tensor, family: Family) -> torch.Tensor:
        if self._type == NAFLEX:
            grid = self.grid(pixel_values, 0)
            shapes = torch.tensor([grid] * len(pixel_values))
            return self.tower.embeddings(patches(pixel_values, self.tower.config.patch_size), shapes)
        hidden = self.tower.embeddings(
            pixel_values, **({"interpolate_pos_encoding": True} if family.asks and self._resized(pixel_values) else {})
        )
        return self.tower.pre_layrnorm(hidden) if hasattr(self.tower, "pre_layrnorm") else hidden  # CLIP's own spelling

    def _from_whole_tower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        options: dict[str, Any] = {"output_hidden_states": True}
        if self._resized(pixel_values) and "interpolate_pos_encoding" in inspect.signature(self.tower.forward).parameters:
            options["interpolate_pos_encoding"] = True
        states = self.tower(pixel_values, **options).hidden_states
        layers_needed(self.layer, len(states) - 1)
        return states[self.layer]

    @property
    def _type(self) -> str:
        return str(self.tower.config.model_type)

    def _resized(self, pixel_values: torch.Tensor) -> bool:
        return tuple(pixel_values.shape[-2:]) != _pair(self.tower.config.image_size)

    def unread(self) -> list[nn.Parameter]:
        """For the types of `FAMILIES`; of another tower nothing is known to be unread."""
        family = FAMILIES.get(self._type)
        if family is None:
            return []
        layers = part_of(self.tower, family.layers)
        after = layers[layers_needed(self.layer, len(layers)) :]
        return parameters_of(after, *(part_of(self.tower, path) for path in family.unread))

    def grid(self, pixel_values: torch.Tensor, tokens: int) -> tuple[int, int]:
        patch = _pair(self.tower.config.patch_size)
        return pixel_values.shape[-2] // patch[0], pixel_values.shape[-1] // patch[1]


def patches(pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """[B, 3, H, W] -> [B, N, side x side x 3], as SigLIP2's own image processor cuts them: row by row, channels last."""
    height, width = (size // side * side for size in pixel_values.shape[-2:])
    blocks = pixel_values[..., :height, :width].unflatten(3, (-1, side)).unflatten(2, (-1, side))  # [B, 3, r, s, c, s]
    return blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def facts(config: PreTrainedConfig) -> TokenFacts:
    """Width, grid and class tokens from a vision config; ValueError for a config that does not name its sizes."""
    missing = [key for key in ("hidden_size", "image_size", "patch_size") if getattr(config, key, None) is None]
    if missing:
        raise ValueError(f"the vision config '{config.model_type}' has no {', '.join(missing)}: it cannot serve as a patch tower")
    image, patch = _pair(config.image_size), _pair(config.patch_size)
    family = FAMILIES.get(config.model_type)
    prefix = (family.prefix if family else 0) + getattr(config, "num_register_tokens", 0)
    return TokenFacts(config.hidden_size, (image[0] // patch[0], image[1] // patch[1]), prefix)


def vision_part(config: PreTrainedConfig) -> PreTrainedConfig:
    """The vision config of a model of pictures and texts; a SigLIP2 of flexible resolution gets the `image_size` of its positions.

    Towers of the flexible kind have no size of their own: set image_size in the config to read other pictures.
    """
    vision = getattr(config, "vision_config", None)
    if isinstance(vision, PreTrainedConfig):
        return vision_part(vision)
    if config.model_type == NAFLEX and getattr(config, "image_size", None) is None:
        config.image_size = round(config.num_patches**0.5) * config.patch_size
    return config


def part_of(tower: nn.Module, path: str) -> Any:
    found: Any = tower
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
