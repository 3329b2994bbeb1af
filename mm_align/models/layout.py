"""What checkpoints of other layouts have in common: names matched with ours, configs read, our model filled with their weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig

from ..config import UserError
from .headers import Header, load_tensors
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .processor import LvlmProcessor

TEXT_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
TOWERS = {"siglip": "siglip_vision_model", "clip": "clip_vision_model"}  # model_type of a whole encoder -> that of its tower


class WeightMap(NamedTuple):
    """What became of each weight: ours <- released, released ones without use, ours without a source, released ones nobody knows."""

    mapped: dict[str, str]
    ignored: list[str]
    absent: list[str]
    missing: list[str]
    unknown: list[str]

    def lines(self) -> list[str]:
        """The same in words."""
        told = [f"{len(self.mapped)} weights mapped"]
        for what, names in (
            ("in the file and never used", self.ignored),
            ("not in the file, and never read at this feature layer", self.absent),
            ("MISSING from the file", self.missing),
            ("in the file and unknown", self.unknown),
        ):
            if names:
                told.append(f"{len(names)} {what}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
        return told


class Loaded(NamedTuple):
    """The model, its processor, and what became of each weight."""

    model: LvlmForConditionalGeneration
    processor: LvlmProcessor
    layout: WeightMap


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises UserError for anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file.parent} holds no {file.name}; expected a model's folder, as save_pretrained writes it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} of the model: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file.name} should hold a JSON object, but holds a {type(found).__name__}")
    return found


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """`content` for people to read."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def text_config(kind: str, released: Mapping[str, Any]) -> Any:
    """The config of a decoder whose keys stand at the top level of a released config."""
    options = {key: released[key] for key in TEXT_KEYS if released.get(key) is not None}
    rope = {"rope_type": "default", "rope_theta": float(released.get("rope_theta", 10000.0)), **(released.get("rope_scaling") or {})}
    return AutoConfig.for_model(kind, **options, rope_parameters=rope, tie_word_embeddings=bool(released.get("tie_word_embeddings", False)))


def described_tower(folder: Path) -> dict[str, Any]:
    """The vision config in a folder that holds a SigLIP or CLIP encoder, whole or its tower alone. UserError for another one."""
    found = read_json(folder / "config.json")
    found = found.get("vision_config", found)
    found["model_type"] = TOWERS.get(found.get("model_type", ""), found.get("model_type"))
    if found["model_type"] not in TOWERS.values():
        raise UserError(f"the vision tower's config has model_type {found['model_type']!r}; this layout holds SigLIP or CLIP towers")
    return dict(found)


def mlp_biases(adapter: Mapping[str, Any]) -> list[bool]:
    """Which Linear of a two-layer `mlp` adapter has a bias; see `MlpAdapter`."""
    given = adapter.get("bias")
    return [True, False] if given is None else [given] * 2 if isinstance(given, bool) else list(given)


def filled(config: LvlmConfig, weights: dict[str, torch.Tensor], absent: Iterable[str], dtype: torch.dtype) -> LvlmForConditionalGeneration:
    """Our model with these weights under our names; those of `absent` are never read and become zeros, the same on every machine."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LvlmForConditionalGeneration(config).state_dict().items()}
    weights |= {name: torch.zeros(shapes[name]) for name in absent}
    model: LvlmForConditionalGeneration = LvlmForConditionalGeneration.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    return model


def read_weights(
    folder: Path,
    headers: Mapping[str, Header],
    config: LvlmConfig,
    lay_out: Callable[[Iterable[str], Iterable[str]], WeightMap],
    dtype: torch.dtype | None,
    *,
    what: str,
) -> tuple[LvlmForConditionalGeneration, WeightMap]:
    """Our model of a folder's weights, and what became of each; `dtype` None keeps the file's. UserError where `what` lacks some."""
    with torch.device("meta"):
        layout = lay_out(headers, LvlmForConditionalGeneration(config).state_dict())
    if layout.missing:
        raise UserError(f"this {what} checkpoint is not whole: " + "; ".join(layout.lines()))
    ours = {name: place for place, name in layout.mapped.items()}
    weights = {ours[name]: tensor for name, tensor in load_tensors(folder, ours)}
    return filled(config, weights, layout.absent, dtype or headers[next(iter(layout.mapped.values()))].dtype), layout
