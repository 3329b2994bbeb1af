"""Finds a model and its processor, on disk or on the hub, and says plainly what is wrong when there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from vision.folders import check_folder

from ..config import UserError, first_line
from .load import DTYPES, check_device
from .prompts import ChatPrompts, LvlmPrompts

WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run. `ends` are the token ids that end an answer; `revision()` may read the weights to hash them."""

    model: Any
    prompts: Any
    name: str
    revision: Callable[[], str]
    ends: list[int]


def load_model(
    name: str, *, revision: str | None = None, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False
) -> Loaded:
    """The model and processor of a local folder or hub id. Raises UserError saying what was found and what to do."""
    from .. import models  # noqa: F401  registers our classes with the Auto classes
    from ..models.bars import hide_bars_without_terminal
    from ..models.layout import read_json
    from ..models.others import only_ours_reads

    hide_bars_without_terminal()
    check_device(device, dtype)
    place = pick_device(device)
    kind = pick_dtype(dtype, place)
    folder = Path(name)
    if (folder / "config.json").is_file() and only_ours_reads(read_json(folder / "config.json")):
        return _released(folder, place, kind)
    if not folder.is_dir():
        from ..models import hub

        found = hub.read_config(name, revision)
        if only_ours_reads(found.written):
            return _released(hub.snapshot(name, found.commit), place, kind, (name, found.commit))
        revision = found.commit  # one commit for all files, whatever is pushed meanwhile
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = _config(name, options)
    model = _model(name, config, kind, options).to(place)
    processor = _processor(name, options)
    return Loaded(
        model,
        prompts_for(processor),
        public_name(name, config),
        lambda: weights_revision(name, config),
        end_ids(model, processor.tokenizer),
    )


def prompts_for(processor: Any) -> Any:
    """How this processor's prompts are made."""
    from ..models import LvlmProcessor

    return LvlmPrompts(processor) if isinstance(processor, LvlmProcessor) else ChatPrompts(processor)


def pick_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU. Raises UserError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device '{device}' was asked for, but torch sees no CUDA device; use --device cpu")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}' was asked for, but torch sees {torch.cuda.device_count()} CUDA devices, numbered from 0")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device '{device}' was asked for, but torch sees no Apple GPU; use --device cpu")
    return place


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 on CUDA and float32 elsewhere, whatever the file holds."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    kind: torch.dtype = getattr(torch, DTYPES[dtype])
    return kind


def _released(folder: Path, device: torch.device, dtype: torch.dtype, hub: tuple[str, str] | None = None) -> Loaded:
    """`hub`: id and commit of a checkpoint that came from there; a folder goes by its own name and its weights' hash."""
    from ..models.others import load_others

    model, processor, _ = load_others(folder, dtype=dtype)
    model = model.to(device)
    name, commit = hub or (public_name(str(folder), model.config), None)
    return Loaded(model, prompts_for(processor), name, lambda: commit or weights_hash(folder), end_ids(model, processor.tokenizer))


def _config(name: str, options: Mapping[str, Any]) -> Any:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{name} is a folder without config.json, so it holds no model; give the folder written by save_pretrained")
    try:
        check_folder(name)
    except ValueError as error:
        raise UserError(f"cannot load the model '{name}': {error}") from error
    try:
        return AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the model '{name}': {first_line(error)}\n{_advice(name)}") from error


def _advice(name: str) -> str:
    where = "Its" if Path(name).is_dir() else "The hub's"
    return f"{where} config.json names no architecture that this transformers knows; is it an image-text model of a newer version?"


def _model(name: str, config: Any, dtype: torch.dtype, options: Mapping[str, Any]) -> Any:
    from ..models.headers import check_whole

    remote = getattr(config, "auto_map", None) if options.get("trust_remote_code") else None
    if type(config) not in AutoModelForImageTextToText._model_mapping and not remote:
        raise UserError(
            f"'{name}' is a {config.model_type} model, not an image-text model; enhancing needs one that sees pictures and answers in text"
        )
    try:
        if any(Path(name).glob("*.safetensors*")):
            check_whole(Path(name))
        return AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, **options)
    except SafetensorError as error:
        raise UserError(f"the weights of '{name}' are damaged: {first_line(error)}; copy or download them again") from error
    except OSError as error:
        raise UserError(f"cannot load the weights of '{name}': {first_line(error)}") from error


def _processor(name: str, options: Mapping[str, Any]) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(name, **options)
    except ImportError as error:
        processor = _without_torchvision(name, options, error)
    except (OSError, ValueError, RuntimeError) as error:
        if "torchvision::nms" in str(error):
            raise UserError(TORCHVISION) from error
        raise UserError(
            f"'{name}' has no usable processor: {first_line(error)}\nIts folder must hold the tokenizer and preprocessor_config.json."
        ) from error
    if getattr(processor, "image_processor", None) is None:
        raise UserError(f"'{name}' has a tokenizer but no image processor (preprocessor_config.json); add the files of its base model")
    return processor


TORCHVISION = (
    "torch and torchvision do not belong together (operator torchvision::nms does not exist): a CPU-only torch beside the package index's "
    "torchvision. Install both from the same place, or uninstall torchvision."
)


def _without_torchvision(name: str, options: Mapping[str, Any], error: ImportError) -> Any:
    """A processor for pictures only, from its parts; families whose processor demands a video part need torchvision."""
    from transformers import AutoImageProcessor
    from transformers.models.auto.processing_auto import processor_class_from_name

    settings = _json(Path(name) / "processor_config.json") | _json(Path(name) / "tokenizer_config.json")
    kind = processor_class_from_name(settings.get("processor_class", ""))
    if kind is None:
        raise UserError(
            f"the processor of '{name}' cannot be imported ({first_line(error)}); install torchvision beside this torch"
        ) from error
    pictures = AutoImageProcessor.from_pretrained(name, backend="pil", **options)
    tokenizer = AutoTokenizer.from_pretrained(name, **options)
    known = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens", "image_token")
    return kind(pictures, tokenizer, chat_template=tokenizer.chat_template, **{k: settings[k] for k in known if k in settings})


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model's generation settings and the tokenizer's end token."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return sorted({int(token) for token in [*ends, tokenizer.eos_token_id] if token is not None})


def public_name(name: str, config: Any) -> str:
    """The hub id, or for a folder the `name` in its config, else the folder's own name; never a path."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    return str(getattr(config, "name", None) or folder.resolve().name)


def weights_revision(name: str, config: Any) -> str:
    """The hub commit, or the hash of a local folder's weights."""
    commit = getattr(config, "_commit_hash", None)
    return weights_hash(Path(name)) if Path(name).is_dir() else str(commit or "unknown")


def weights_hash(folder: Path) -> str:
    """First 16 hex digits of the sha256 over the weights files' names and contents."""
    files = next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
