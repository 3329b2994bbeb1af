"""A vision tower of another library (timm, open_clip), wrapped so that transformers can configure, build, save and load it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..tokens import TokenFacts
from .base import layers_needed


def library_of(name: str) -> ModuleType:
    """The file of a library's encoder, which has `build`, `look` and `load`. ValueError for an unknown library, and for transformers."""
    from . import ENCODERS  # the table imports this module

    others = [library for library in ENCODERS if library != "transformers"]
    if name not in others:
        raise ValueError(f"unknown tower library '{name}'; known: transformers (give 'model_type'), {', '.join(others)}")
    return sys.modules[ENCODERS[name].__module__]


class ExternalTowerConfig(PreTrainedConfig):
    """Names a tower: `library` ("timm" or "open_clip"), `name` there, `model_kwargs` for its constructor.

    hidden_size, grid, prefix and image_size follow from these and are filled in by building the tower without memory; so does
    `stages` of a staged tower, a list of [width, rows, columns], and the others are those of its last stage. image_size may be
    given for a staged tower, which has none of its own. image_mean, image_std: of the pixels its weights were trained with, where
    they came from a checkpoint that says. Raises ValueError for an unknown library or a tower without features.
    """

    model_type = "mm_align_tower"

    library: str = "timm"
    name: str = ""
    model_kwargs: Any = None
    hidden_size: int | None = None
    grid: Any = None
    prefix: int | None = None
    image_size: int | None = None
    stages: Any = None
    image_mean: Any = None
    image_std: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        library_of(self.library)
        self.model_kwargs = dict(self.model_kwargs or {})
        if self.hidden_size is None and (self.name or self.model_kwargs):  # transformers also makes one without arguments
            self._look()
        super().__post_init__(**kwargs)

    def _look(self) -> None:
        with torch.device("meta"):
            facts, self.image_size, stages = library_of(self.library).look(self.name, self.model_kwargs, self.image_size)
        self.hidden_size, self.grid, self.prefix = facts.width, list(facts.grid), facts.prefix
        self.stages = [[stage.width, *stage.grid] for stage in stages] if stages else None


class ExternalTower(PreTrainedModel):
    """`.model` is the library's own module, unchanged, so that its published weights fit."""

    config: ExternalTowerConfig
    config_class = ExternalTowerConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["ExternalTower"]
    _supports_sdpa = True
    _supports_flash_attn = True  # these libraries choose their attention themselves
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: ExternalTowerConfig) -> None:
        super().__init__(config)
        self.model = library_of(config.library).build(config.name, config.model_kwargs)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if hasattr(module, "init_non_persistent_buffers"):  # timm's rotary tables, lost on the meta device
            module.init_non_persistent_buffers()

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        self.model.set_grad_checkpointing(enable)

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        """The library's own forward: pooled features."""
        return self.model(pixel_values)


def facts(config: ExternalTowerConfig, layer: int = -1) -> TokenFacts:
    """Width, grid and prefix as the config holds them; of a staged tower those of stage `layer`."""
    if config.hidden_size is None or config.prefix is None:
        raise ValueError(f"the tower config of '{config.name}' has no sizes; make it from a library and a name")
    if config.stages:
        depth = layers_needed(layer, len(config.stages))
        if depth == 0:
            raise ValueError(f"'{config.name}' has {len(config.stages)} stages to read, layers 1 to {len(config.stages)} (or -1, -2, ...)")
        width, rows, columns = config.stages[depth - 1]
        return TokenFacts(width, (rows, columns), 0)
    return TokenFacts(config.hidden_size, (config.grid[0], config.grid[1]), config.prefix)
