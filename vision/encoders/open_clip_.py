"""Reads image towers of open_clip. The library is imported when a tower of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..tokens import TokenFacts
from .base import Encoder, layers_needed, parameters_of


@dataclass(frozen=True)
class OpenClipEncoder(Encoder):
    """Class token and patches of one residual block, before `ln_post` and the projection."""

    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        model = self.tower.model
        depth = layers_needed(self.layer, len(model.transformer.resblocks))
        if depth == 0:
            return model._embeds(pixel_values)
        got = model.forward_intermediates(
            pixel_values, indices=[depth - 1], stop_early=True, output_fmt="NLC", intermediates_only=True, output_extra_tokens=True
        )
        return torch.cat([got["image_intermediates_prefix"][0], got["image_intermediates"][0]], dim=1)

    def unread(self) -> list[nn.Parameter]:
        model = self.tower.model
        after = model.transformer.resblocks[layers_needed(self.layer, len(model.transformer.resblocks)) :]
        return parameters_of(after, model.ln_post, model.proj, getattr(model, "attn_pool", None))

    def grid(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        patch = self.tower.model.patch_size
        return pixel_values.shape[-2] // patch[0], pixel_values.shape[-1] // patch[1]


def build(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The image tower of the CLIP model `name`, or of the sizes in `kwargs` (embed_dim, vision_cfg), with random weights.

    Raises ValueError for an unknown name, and for towers that are not open_clip's own vision transformer.
    """
    import open_clip
    from open_clip.model import _build_vision_tower  # the public ways build the text tower too
    from open_clip.transformer import VisionTransformer

    config = dict(open_clip.get_model_config(name) or {}) if name else {}
    config |= kwargs
    if "vision_cfg" not in config:
        raise ValueError(f"open_clip knows no model '{name}' (see open_clip.list_models()), and kwargs give no 'vision_cfg'")
    model = _build_vision_tower(config["embed_dim"], config["vision_cfg"], quick_gelu=config.get("quick_gelu", False))
    if not isinstance(model, VisionTransformer):
        raise ValueError(f"the image tower of open_clip's '{name}' is a {type(model).__name__}; for a timm trunk use the library 'timm'")
    return model


def look(name: str, kwargs: Mapping[str, Any]) -> tuple[TokenFacts, int]:
    """Facts and image side of a tower; call it under the meta device."""
    model = build(name, kwargs)
    grid = tuple(model.grid_size)
    return TokenFacts(model.conv1.out_channels, (grid[0], grid[1]), 1), model.image_size[0]
