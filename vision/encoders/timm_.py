"""Reads towers of timm: vision transformers by block, ConvNeXt and other staged towers by stage. Imported when a tower is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..tokens import TokenFacts
from .base import Encoder, Look, layers_needed, parameters_of

HEADS = ("norm", "norm_pre", "fc_norm", "head", "fc", "attn_pool", "conv_head", "bn2", "head_drop")  # behind all blocks or stages


@dataclass(frozen=True)
class TimmEncoder(Encoder):
    """`forward_intermediates` of the library, stopped after the block or stage that is needed and without the final norm.

    Layer k of a staged tower is the output of its k-th stage (entry k - 1 of `feature_info`), -1 the coarsest, flattened row
    by row; widths and grids differ from stage to stage.
    """

    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        depth = self._depth
        if depth == 0:
            raise IndexError("timm gives no features before the first block: feature layer 0 cannot be read")
        options = {"indices": [depth - 1], "norm": False, "stop_early": True, "intermediates_only": True}
        if not has_blocks(self.tower.model):
            maps = self.tower.model.forward_intermediates(pixel_values, output_fmt="NCHW", **options)[0]
            return maps.flatten(2).transpose(1, 2)  # [B, D, r, c] -> [B, N, D]
        got = self.tower.model.forward_intermediates(pixel_values, output_fmt="NLC", return_prefix_tokens=True, **options)[0]
        return got if isinstance(got, torch.Tensor) else torch.cat([got[1], got[0]], dim=1)

    @property
    def _depth(self) -> int:
        model = self.tower.model
        return layers_needed(self.layer, len(model.blocks) if has_blocks(model) else len(model.feature_info))

    def unread(self) -> list[nn.Parameter]:
        model = self.tower.model
        heads = [getattr(model, name, None) for name in HEADS]
        if has_blocks(model):
            return parameters_of(model.blocks[self._depth :], *heads)
        later = [model.get_submodule(model.feature_info[i]["module"]) for i in range(self._depth, len(model.feature_info))]
        return parameters_of(*later, *heads)

    def grid(self, pixel_values: torch.Tensor, tokens: int) -> tuple[int, int]:
        height, width = pixel_values.shape[-2:]
        if has_blocks(self.tower.model):
            rows, columns = self.tower.model.patch_embed.dynamic_feat_size((height, width))
            return int(rows), int(columns)
        stride = self.tower.model.feature_info[self._depth - 1]["reduction"]
        down, up = (height // stride, width // stride), (-(-height // stride), -(-width // stride))
        return down if down[0] * down[1] == tokens else up  # towers that pad round up


def has_blocks(model: nn.Module) -> bool:
    """Whether it is a transformer of blocks over one grid of tokens, rather than of stages."""
    return hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens")


def build(name: str, kwargs: Mapping[str, Any], pretrained: str | bool = False) -> nn.Module:
    """The tower, able to read pictures of other sizes (its own interpolation of positions).

    pretrained: False random weights, True those timm has for the name, else a checkpoint file, whose positions are resized to
    fit. Raises ValueError for an unknown name, unknown kwargs, or a tower that gives no maps of features.
    """
    import timm

    options = {"pretrained": bool(pretrained), "num_classes": 0, **kwargs}
    if isinstance(pretrained, str):
        options["pretrained_cfg_overlay"] = {"file": pretrained}
    try:
        try:
            model = timm.create_model(name, **({"dynamic_img_size": True} | options))
        except TypeError:  # towers of stages read any size and do not know the option
            model = timm.create_model(name, **options)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise
        raise ValueError(f"timm knows no model '{name}'; see timm.list_models()") from error
    except TypeError as error:
        raise ValueError(f"timm's '{name}' cannot be built from {dict(kwargs)}: {error}") from error
    if not has_blocks(model) and not (hasattr(model, "feature_info") and hasattr(model, "forward_intermediates")):
        raise ValueError(f"timm's '{name}' gives neither one grid of patch tokens nor stages of features; choose a ViT or a ConvNeXt")
    return model


def look(name: str, kwargs: Mapping[str, Any], image_size: int | None) -> Look:
    """Facts and image side of a tower; call it under the meta device. image_size: of a staged tower, which has none of its own."""
    model = build(name, kwargs).eval()
    if has_blocks(model):
        grid = tuple(model.patch_embed.grid_size)
        return Look(TokenFacts(model.embed_dim, (grid[0], grid[1]), model.num_prefix_tokens), model.patch_embed.img_size[0])
    side = image_size or int(model.pretrained_cfg["input_size"][-1])
    with torch.no_grad():
        maps = model.forward_intermediates(torch.zeros(1, 3, side, side, device="meta"), output_fmt="NCHW", intermediates_only=True)
    stages = [TokenFacts(m.shape[1], (m.shape[2], m.shape[3]), 0) for m in maps]
    return Look(stages[-1], side, stages)
