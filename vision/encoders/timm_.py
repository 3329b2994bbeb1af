"""Reads towers of timm: vision transformers by block, ConvNeXt and other staged towers by stage. Imported when a tower is built."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..folders import check_folder, check_weights
from ..tokens import TokenFacts
from .base import Encoder, Look, Trained, constants, layers_needed, parameters_of

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


def sizes(model: nn.Module) -> dict[str, Any]:
    """Constructor options that keep the picture size of a transformer, whatever its name's default is."""
    return {"img_size": list(model.patch_embed.img_size)} if has_blocks(model) else {}


def build(name: str, kwargs: Mapping[str, Any], pretrained: str | bool = False) -> nn.Module:
    """The tower, able to read pictures of other sizes (its own interpolation of positions).

    pretrained: False random weights, True those timm has for the name, else a checkpoint file, whose positions are resized to
    fit. Raises ValueError for an unknown name, unknown kwargs, incomplete weights, or a tower that gives no features.
    """
    options = {"pretrained": bool(pretrained), "num_classes": 0, **kwargs}
    if isinstance(pretrained, str):
        options["pretrained_cfg_overlay"] = {"file": pretrained}
    with _missing_keys() as missing:
        model = _created(name, kwargs, options)
    if missing:
        raise ValueError(f"the weights of timm's '{name}' are incomplete: {missing[0][:200]}")
    if has_blocks(model) and not hasattr(model, "patch_embed"):
        raise ValueError(f"timm's '{name}' reads lists of patches (NaFlex), not pictures; choose the same tower of fixed resolution")
    if not has_blocks(model) and not (hasattr(model, "feature_info") and hasattr(model, "forward_intermediates")):
        raise ValueError(f"timm's '{name}' gives neither one grid of patch tokens nor stages of features; choose a ViT or a ConvNeXt")
    return model


@contextmanager
def _missing_keys() -> Iterator[list[str]]:
    """Collects what timm only logs: keys of the model that a checkpoint did not have, which stay random."""
    heard: list[str] = []
    logger, handler = logging.getLogger("timm.models._builder"), logging.Handler(logging.INFO)
    handler.emit = lambda record: heard.append(record.getMessage()) if record.getMessage().startswith("Missing keys") else None  # type: ignore[method-assign]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield heard
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _created(name: str, kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        try:
            return timm.create_model(name, **({"dynamic_img_size": True} | dict(options)))
        except TypeError:  # towers of stages read any size and do not know the option
            return timm.create_model(name, **options)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise
        raise ValueError(f"timm knows no model '{name}'; see timm.list_models()") from error
    except TypeError as error:
        raise ValueError(f"timm's '{name}' cannot be built from {dict(kwargs)}: {error}") from error


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


def load(source: str, name: str | None, kwargs: dict[str, Any]) -> Trained:
    """timm's weights of a name, of a folder or of "hf-hub:OWNER/NAME"; with `name`, those of a file for that architecture.

    Raises ValueError as `build`, and for a file without a name or a name without a file.
    """
    if Path(source).is_file():
        if name is None:
            raise ValueError(f"{source} is a file of weights: give timm's name of the tower it belongs to as 'name'")
        model = build(name, kwargs, source)
        return Trained("timm", name, kwargs, constants(model.pretrained_cfg), model)
    if name is not None:
        raise ValueError(f"'from' is {source}, which is no file: leave 'name' out, and give timm's name or a folder as 'from'")
    if Path(source).is_dir():
        check_folder(source, key="architecture")
        check_weights(source)
    model = build(f"local-dir:{source}" if Path(source).is_dir() else source, kwargs, True)
    architecture, stored = _architecture(source)
    about = constants(model.pretrained_cfg) | {"image_size": int(model.pretrained_cfg["input_size"][-1])}
    return Trained("timm", architecture, stored | kwargs | sizes(model), about, model)


def _architecture(source: str) -> tuple[str, dict[str, Any]]:
    """timm's name of an architecture and its options, which build the same tower again without the folder or the hub."""
    from timm.models._hub import load_model_config_from_hf, load_model_config_from_path

    if not Path(source).is_dir() and not source.startswith("hf-hub:"):
        return source, {}
    told = load_model_config_from_path(source) if Path(source).is_dir() else load_model_config_from_hf(source.removeprefix("hf-hub:"))
    return told[1], dict(told[2] or {})
