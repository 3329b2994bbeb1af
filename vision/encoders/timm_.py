"""Reads vision transformers of timm. The library is imported when a tower of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..tokens import TokenFacts
from .base import Encoder, layers_needed, parameters_of


@dataclass(frozen=True)
class TimmEncoder(Encoder):
    """`forward_intermediates` of the library, stopped after the block that is needed and without its final norm."""

    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        model = self.tower.model
        depth = layers_needed(self.layer, len(model.blocks))
        if depth == 0:
            raise IndexError("timm gives no features before the first block: feature layer 0 cannot be read")
        got = model.forward_intermediates(
            pixel_values,
            indices=[depth - 1],
            norm=False,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
            return_prefix_tokens=True,
        )[0]
        return got if isinstance(got, torch.Tensor) else torch.cat([got[1], got[0]], dim=1)

    def unread(self) -> list[nn.Parameter]:
        model = self.tower.model
        after = model.blocks[layers_needed(self.layer, len(model.blocks)) :]
        return parameters_of(after, *(getattr(model, name, None) for name in ("norm", "fc_norm", "head", "attn_pool")))

    def grid(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        rows, columns = self.tower.model.patch_embed.dynamic_feat_size(tuple(pixel_values.shape[-2:]))
        return int(rows), int(columns)


def build(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The tower with random weights. Raises ValueError for an unknown name or a tower without one grid of tokens."""
    import timm

    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **kwargs)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise
        raise ValueError(f"timm knows no model '{name}'; see timm.list_models()") from error
    if not hasattr(model, "blocks") or not hasattr(model, "num_prefix_tokens"):
        raise ValueError(f"timm's '{name}' has stages, not one grid of patch tokens; choose a vision transformer")
    return model


def look(name: str, kwargs: Mapping[str, Any]) -> tuple[TokenFacts, int]:
    """Facts and image side of a tower; call it under the meta device."""
    model = build(name, kwargs)
    grid = tuple(model.patch_embed.grid_size)
    return TokenFacts(model.embed_dim, (grid[0], grid[1]), model.num_prefix_tokens), model.patch_embed.img_size[0]
