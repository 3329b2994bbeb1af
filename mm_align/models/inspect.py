"""What a model is and needs, from its config and safetensors headers alone; no weight is read or downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import torch
from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError
from transformers import AutoConfig, AutoModelForImageTextToText

from ..config import UserError
from . import aitqe_layout, hub, llava_layout, opt_visor_layout
from .headers import DTYPES, Header, has_weights, read_headers
from .layout import WeightMap, read_json
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .memory import kv_bytes_per_token, shown

PROMPT = 1024  # tokens of one row assumed for the cache estimate, picture and answer included
BATCH = 64


class Match(NamedTuple):
    """Names and shapes in the file against those the model expects. `library`: names are renamed on loading, so only counted."""

    matching: int
    missing: list[str]
    unknown: list[str]
    misshapen: list[str]
    ignored: list[str]
    library: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """`parts`: parameters of each part by the config; `stored`: numbers in the file, None when its headers are out of reach."""

    name: str
    kind: str
    parts: Mapping[str, int]
    stored: int | None
    dtypes: Mapping[str, int]
    match: Match | None
    kv_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the file holds what the model needs; True as well when it could not be looked at."""
        return self.match is None or not (self.match.missing or self.match.misshapen)

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    def to_lines(self) -> list[str]:
        """The same for people."""
        parts = " + ".join(f"{count:,} {part}" for part, count in self.parts.items())
        return [
            f"{self.name}: {self.kind}",
            f"parameters: {self.parameters:,} ({parts})",
            *self._stored_lines(),
            *self._memory_lines(),
            *self.notes,
        ]

    def _stored_lines(self) -> list[str]:
        if self.stored is None or self.match is None:
            return ["weights: headers not looked at, so nothing is known about what is missing"]
        kinds = ", ".join(f"{count:,} {dtype}" for dtype, count in self.dtypes.items())
        told = [f"weights: {self.stored:,} numbers in the files ({kinds})"]
        if self.match.library:
            return [*told, "names: renamed by transformers on loading, compared by number of weights only"]
        told.append(f"names: {self.match.matching} match" + ("" if self.ok else "; this checkpoint is not whole"))
        for what in ("missing", "misshapen", "unknown", "ignored"):
            if names := getattr(self.match, what):
                told.append(f"{what}: {len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})")
        return told

    def _memory_lines(self) -> list[str]:
        sizes = [f"{shown(self.parameters * width)} in {name}" for name, width in (("float32", 4), ("bfloat16", 2))]
        cache = shown(self.kv_bytes * PROMPT * BATCH)
        return [
            f"memory for the weights: {', '.join(sizes)}",
            f"keys and values: {self.kv_bytes:,} bytes a token in bfloat16, {cache} for {BATCH} rows of {PROMPT} tokens",
        ]


def inspect_model(name: str, *, revision: str | None = None) -> Inspection:
    """Looks at a local folder or a hub id. Raises UserError when there is no such image-text model."""
    folder = Path(name)
    if not folder.is_dir():
        return _on_hub(name, revision)
    written = read_json(folder / "config.json")
    return _inspection(folder.resolve().name, written, read_headers(folder), folder)


def _on_hub(name: str, revision: str | None) -> Inspection:
    """Config and headers from the cache where it holds all weights, else through the hub's range requests."""
    found = hub.read_config(name, revision)
    if has_weights(found.folder):
        return _inspection(name, found.written, read_headers(found.folder), found.folder)
    try:
        weights = huggingface_hub.get_safetensors_metadata(name, revision=found.commit)
    except (*hub.FAILURES, NotASafetensorsRepoError, SafetensorsParsingError):
        return _inspection(name, found.written, None, None)
    headers = {
        key: Header(tuple(tensor.shape), DTYPES.get(tensor.dtype, torch.uint8))
        for file in weights.files_metadata.values()
        for key, tensor in file.tensors.items()
    }
    return _inspection(name, found.written, headers, None)


def _inspection(name: str, written: Mapping[str, Any], headers: Mapping[str, Header] | None, folder: Path | None) -> Inspection:
    config = config_of(written, headers, folder)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    match = None if headers is None else _match(written, model, headers)
    return Inspection(
        name,
        _kind(written, config),
        parameters_of(model),
        None if headers is None else sum(header.size for header in headers.values()),
        _dtypes(headers or {}),
        match,
        kv_bytes_per_token(config.get_text_config(), 2),
    )


def config_of(written: Mapping[str, Any], headers: Mapping[str, Header] | None, folder: Path | None) -> Any:
    """The config object of a config.json: ours where ours reads it, else the library's. UserError for one that neither knows."""
    kind = written.get("model_type")
    if kind == aitqe_layout.MODEL_TYPE:
        return _released(written).to_lvlm_config(written, headers, folder)
    if llava_layout.is_original(written):
        return llava_layout.to_lvlm_config(written, folder)
    if kind == LvlmConfig.model_type:
        return LvlmConfig.from_dict(dict(written))
    try:
        config = AutoConfig.for_model(kind, **{key: value for key, value in written.items() if key != "model_type"})
    except (ValueError, KeyError) as error:
        told = f"config.json names the model_type {kind!r}, which this transformers does not know"
        raise UserError(told if kind else "config.json names no model_type, so nobody knows which model this is") from error
    if type(config) not in AutoModelForImageTextToText._model_mapping:
        raise UserError(f"this is a {kind} model, not an image-text model")
    return config


def _released(written: Mapping[str, Any]) -> Any:
    """The layout of a config whose model_type is that of AITQE and Opt-Visor alike."""
    return opt_visor_layout if opt_visor_layout.is_opt_visor(written) else aitqe_layout


def _kind(written: Mapping[str, Any], config: Any) -> str:
    text = config.get_text_config().model_type
    if written.get("model_type") == aitqe_layout.MODEL_TYPE:
        name = "Opt-Visor" if opt_visor_layout.is_opt_visor(written) else "AITQE"
        return f"released {name} layout, {config.vision_config.model_type} + MLP + {text}"
    if llava_layout.is_original(written):
        return f"LLaVA's own layout, {config.vision_config.model_type} + MLP + {text}; the tower may be in a folder of its own"
    return f"{written['model_type']}, with a {text} decoder"


def parameters_of(model: Any) -> dict[str, int]:
    """Parameters by part: language model with its head, vision tower, and what joins them; tied ones once."""
    counts = {"language model": 0, "vision": 0, "adapter": 0}
    for name, parameter in model.named_parameters():
        counts[_part(name)] += parameter.numel()
    return counts


def _part(name: str) -> str:
    if "vision_tower" in name or "vision_model" in name or ".visual." in name:
        return "vision"
    return "language model" if "language_model" in name or "lm_head" in name or "text_model" in name else "adapter"


def _match(written: Mapping[str, Any], model: Any, headers: Mapping[str, Header]) -> Match:
    if written.get("model_type") == aitqe_layout.MODEL_TYPE:
        layout, unused = _released(written), set(aitqe_layout.UNUSED)
        optional = {layout.released_name(name) for name in model.state_dict() if name.startswith(aitqe_layout.OPTIONAL)}
        return match_names(layout.released_shapes(model), headers, optional | unused, unused)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if llava_layout.is_original(written):
        return _match_llava(shapes, headers)
    if isinstance(model, LvlmForConditionalGeneration):
        tied = set(model._tied_weights_keys) if model.config.tie_word_embeddings else set()
        return match_names(shapes, headers, tied, set())
    return Match(min(len(shapes), len(headers)), [], [], [], [], library=True)


def _match_llava(shapes: Mapping[str, tuple[int, ...]], headers: Mapping[str, Header]) -> Match:
    layout: WeightMap = llava_layout.lay_out(headers, shapes, original=True)
    within = any(name.startswith("model.vision_tower.") for name in headers)
    return Match(
        len(layout.mapped),
        [name for name in layout.missing if within or not name.startswith("model.vision_tower.")],
        layout.unknown,
        sorted(theirs for ours, theirs in layout.mapped.items() if headers[theirs].shape != shapes[ours]),
        layout.ignored,
    )


def match_names(expected: Mapping[str, tuple[int, ...]], headers: Mapping[str, Header], optional: set[str], ignored: set[str]) -> Match:
    """Compares names and shapes; `optional` ones may be absent, `ignored` ones are in the file and used by nobody."""
    return Match(
        sum(name in headers for name in expected),
        sorted(name for name in expected if name not in headers and name not in optional),
        sorted(name for name in headers if name not in expected),
        sorted(name for name, shape in expected.items() if name in headers and headers[name].shape != tuple(shape)),
        sorted(ignored & set(headers)),
    )


def _dtypes(headers: Mapping[str, Header]) -> dict[str, int]:
    """Numbers stored in each dtype."""
    counts: dict[str, int] = {}
    for header in headers.values():
        dtype = str(header.dtype).removeprefix("torch.")
        counts[dtype] = counts.get(dtype, 0) + header.size
    return counts
