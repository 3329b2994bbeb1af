"""Reads image towers of open_clip. The library is imported when a tower of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..folders import check_folder, check_weights
from ..tokens import TokenFacts
from .base import Encoder, Look, Trained, constants, layers_needed, parameters_of
from .timm_ import sizes


@dataclass(frozen=True)
class OpenClipEncoder(Encoder):
    """Class token and patches of one residual block, before `ln_post` and the projection.

    For pictures of another size the positions are resized as open_clip does when it loads a checkpoint into a tower of
    another image size: bicubic, antialiased.
    """

    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        model = self.tower.model
        depth = layers_needed(self.layer, len(model.transformer.resblocks))
        embedded = self._embedded(pixel_values)
        if depth == 0:
            return embedded
        return model.transformer.forward_intermediates(embedded, indices=[depth - 1], stop_early=True)[1][0]

    def _embedded(self, pixel_values: torch.Tensor) -> torch.Tensor:
        model, grid = self.tower.model, self.grid(pixel_values, 0)
        if grid == tuple(model.grid_size):
            return model._embeds(pixel_values)
        patches = model.conv1(pixel_values).flatten(2).transpose(1, 2)  # [B, N, D]
        cls = model.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        positions = resized_positions(model.positional_embedding, tuple(model.grid_size), grid).to(patches.dtype)
        return model.ln_pre(model.patch_dropout(torch.cat([cls, patches], dim=1) + positions))

    def unread(self) -> list[nn.Parameter]:
        model = self.tower.model
        after = model.transformer.resblocks[layers_needed(self.layer, len(model.transformer.resblocks)) :]
        return parameters_of(after, model.ln_post, model.proj, getattr(model, "attn_pool", None))

    def grid(self, pixel_values: torch.Tensor, tokens: int) -> tuple[int, int]:
        patch = self.tower.model.patch_size
        return pixel_values.shape[-2] // patch[0], pixel_values.shape[-1] // patch[1]


def resized_positions(positions: torch.Tensor, old: tuple[int, ...], new: tuple[int, int]) -> torch.Tensor:
    """[1 + r c, D] of an `old` = (r, c) grid behind one class token -> [1 + r' c', D] of a `new` grid."""
    maps = positions[1:].float().T.unflatten(1, old).unsqueeze(0)  # [1, D, r, c]
    resized = F.interpolate(maps, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:1], resized[0].flatten(1).T.to(positions.dtype)])


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


def look(name: str, kwargs: Mapping[str, Any], image_size: int | None) -> Look:
    """Facts and image side of a tower; call it under the meta device."""
    model = build(name, kwargs)
    grid = tuple(model.grid_size)
    return Look(TokenFacts(model.conv1.out_channels, (grid[0], grid[1]), 1), model.image_size[0])


def load(source: str, name: str | None, kwargs: dict[str, Any]) -> Trained:
    """The image tower of a trained CLIP: a folder or "hf-hub:OWNER/NAME"; with `name`, a tag of it or a file. A trunk of timm is timm's.

    Raises ValueError for a source that is neither.
    """
    import open_clip

    if name is None:
        check_folder(source, "open_clip_config.json", "model_cfg")
        check_weights(source)
        full = f"local-dir:{source}" if Path(source).is_dir() else source
        if ":" not in full:
            raise ValueError(f"'from' is {source}: give a folder, 'hf-hub:OWNER/NAME', or the model's 'name' and its tag or file as 'from'")
        model = open_clip.create_model(full, require_pretrained=True, **kwargs)
        described: dict[str, Any] = open_clip.get_model_config(full) or {}
    else:
        model = open_clip.create_model(name, pretrained=source, require_pretrained=True, **kwargs)
        described = open_clip.get_model_config(name) or {}
    vision, about = described["vision_cfg"], constants(open_clip.get_model_preprocess_cfg(model))
    if "timm_model_name" in vision:
        trunk = model.visual.trunk
        return Trained("timm", vision["timm_model_name"], sizes(trunk), {"image_size": vision["image_size"]} | about, trunk)
    own = {key: described[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in described}
    return Trained("open_clip", name or "", (own if name is None else {}) | kwargs, about, model.visual)
