"""Checkpoints of other layouts: whose a config.json is, and our model made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..config import UserError
from . import aitqe_layout, llava_layout, opt_visor_layout
from .layout import Loaded, read_json

MODEL_TYPES = (aitqe_layout.MODEL_TYPE, *llava_layout.MODEL_TYPES)  # Opt-Visor's is AITQE's


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
        return opt_visor_layout.load_opt_visor(folder, dtype=dtype)
    if written.get("model_type") == aitqe_layout.MODEL_TYPE:
        return aitqe_layout.load_released(folder, dtype=dtype)
    if llava_layout.is_llava(written):
        return llava_layout.load_llava(folder, dtype=dtype)
    raise UserError(f"{folder.name} holds a {written.get('model_type')} model; known layouts: AITQE and Opt-Visor (mm), LLaVA-1.5 (llava)")
