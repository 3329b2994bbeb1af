"""Checkpoints of other layouts: whose a config.json is, and our model made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import UserError
from . import aitqe_layout, llava_layout, opt_visor_layout
from .layout import Layout, read_json
from .lvlm import LvlmForConditionalGeneration
from .processor import LvlmProcessor

MODEL_TYPES = (aitqe_layout.MODEL_TYPE, *llava_layout.MODEL_TYPES)  # Opt-Visor's is AITQE's


class Loaded(NamedTuple):
    """The model, its processor, and what became of each weight."""

    model: LvlmForConditionalGeneration
    processor: LvlmProcessor
    layout: Layout


def is_other(written: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a layout that transformers does not read into our class."""
    return written.get("model_type") in MODEL_TYPES


def only_ours_reads(written: Mapping[str, Any]) -> bool:
    """Whether transformers has no class of its own for it: AITQE, Opt-Visor, LLaVA in its authors' layout."""
    return written.get("model_type") == aitqe_layout.MODEL_TYPE or llava_layout.is_original(written)


def load_others(folder: Path, *, dtype: torch.dtype | None = None) -> Loaded:
    """A checkpoint of AITQE, Opt-Visor or LLaVA-1.5; `dtype` None keeps the file's. UserError for another one, or one that is not whole."""
    written = read_json(folder / "config.json")
    if opt_visor_layout.is_opt_visor(written):
        return Loaded(*opt_visor_layout.load_opt_visor(folder, dtype=dtype))
    if written.get("model_type") == aitqe_layout.MODEL_TYPE:
        return Loaded(*aitqe_layout.load_released(folder, dtype=dtype))
    if llava_layout.is_llava(written):
        return Loaded(*llava_layout.load_llava(folder, dtype=dtype))
    raise UserError(f"{folder.name} holds a {written.get('model_type')} model; known layouts: AITQE and Opt-Visor (mm), LLaVA-1.5 (llava)")
