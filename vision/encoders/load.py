"""Towers with trained weights, from the hub or a local folder, through whichever library published them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import logging

from ..folders import NoModelThere, check_folder, check_weights
from .base import Trained
from .choice import encoder_for, facts_of, tower_config
from .external import ExternalTower, ExternalTowerConfig, library_of


def load_tower(described: Mapping[str, Any]) -> PreTrainedModel:
    """The tower that a dict describes, in float32: with "from" trained weights, without it random ones (torch's seed).

    {"from": FOLDER or hub id}: a vision model of transformers, or the vision part of its CLIP, SigLIP or SigLIP2; further keys
    change the config ("image_size" of a SigLIP2 of flexible resolution). {"library": "timm", "from": NAME}: timm's weights of
    that name ("hf-hub:OWNER/NAME" and folders of timm's form too), or {"name": NAME, "from": FILE}; "kwargs" go to its
    constructor. {"library": "open_clip", "from": FOLDER or "hf-hub:OWNER/NAME"}, or {"name": NAME, "from": tag or FILE}; a timm
    trunk of a CLIP becomes a tower of timm. Without "from": see `tower_config`.

    Raises ValueError for what cannot be had, and for weights that are incomplete or of other shapes.
    """
    from . import ENCODERS  # the table imports this module

    options = dict(described)
    source, library = options.pop("from", None), options.pop("library", "transformers")
    if library not in ENCODERS:
        raise ValueError(f"unknown tower library '{library}'; known: {', '.join(ENCODERS)}")
    if library != "transformers":
        _check_keys(options, ["name", "kwargs", "image_size", "image_mean", "image_std"])
    if source is None:
        return _random(library, options)
    name, kwargs = options.pop("name", None), dict(options.pop("kwargs", None) or {})
    if library == "transformers":
        return _transformers(str(source), options)
    try:
        tower = _wrapped(library_of(library).load(str(source), name, kwargs), options)
    except (RuntimeError, OSError, NoModelThere) as error:
        raise ValueError(_cannot(str(source), library, error)) from error
    return tower.float().eval()


def _random(library: str, options: dict[str, Any]) -> PreTrainedModel:
    kind = options.get("model_type")
    if library == "transformers" and kind is not None:
        _check_keys(options, ["model_type", *AutoConfig.for_model(kind).to_dict()])
    return AutoModel.from_config(tower_config(options | {"library": library}), dtype=torch.float32)


def _check_keys(options: Mapping[str, Any], known: Collection[str]) -> None:
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
            raise ValueError(f"a tower has no key '{key}'; {hint}")


def _transformers(source: str, changes: dict[str, Any]) -> PreTrainedModel:
    try:
        check_folder(source)
        config = tower_config(AutoConfig.from_pretrained(source))
        facts_of(config)
        check_weights(source)
    except (OSError, ValueError) as error:
        raise ValueError(_cannot(source, "transformers", error)) from error
    _check_keys(changes, [*config.to_dict(), "image_size"])
    for key, value in changes.items():
        setattr(config, key, value)
    try:
        with _quiet():  # the text part of a pair is no loss; what is missing is told below
            tower, told = AutoModel.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(_cannot(source, "transformers", error)) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise ValueError(f"the weights of '{source}' are incomplete: {len(missing)} of the tower are missing, such as '{missing[0]}'")
    return tower


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _wrapped(trained: Trained, changes: dict[str, Any]) -> ExternalTower:
    """Its weights in the tower that a config of its name and kwargs builds; only what no layer's output needs may be missing."""
    config = ExternalTowerConfig(library=trained.library, name=trained.name, model_kwargs=trained.kwargs, **trained.about | changes)
    tower = ExternalTower(config)
    found, own = trained.model.state_dict(), tower.model.state_dict()
    behind = {id(parameter) for parameter in encoder_for(tower, layer=-1).unread()}
    unread = {key for key, parameter in tower.model.named_parameters() if id(parameter) in behind}
    missing = sorted(set(own) - set(found) - unread)
    if missing:
        raise ValueError(f"the weights of '{trained.name}' are incomplete: {len(missing)} of the tower are missing, such as '{missing[0]}'")
    tower.model.load_state_dict({key: found[key] for key in own if key in found}, strict=False)
    return tower


def _cannot(source: str, library: str, error: BaseException) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    where = (
        "" if Path(source).exists() else "; it is no local folder, and without network only a folder or what the cache holds can be read"
    )
    return f"cannot load the tower '{source}' of {library}: {first}{where}"


def lora_targets(tower: nn.Module, unread: list[nn.Parameter]) -> list[str]:
    """Names of the tower's layers that low-rank updates (LoRA) fit, those behind the layer that is read left out.

    Linear layers, and whole attention modules of torch where a library (open_clip) uses them. unread: of its `Encoder`.
    """
    behind = {id(parameter) for parameter in unread}
    attention = [name for name, module in tower.named_modules() if isinstance(module, nn.MultiheadAttention)]
    inside = tuple(f"{name}." for name in attention)
    linear = [name for name, module in tower.named_modules() if isinstance(module, nn.Linear) and not name.startswith(inside)]
    fits = [name for name in (*attention, *linear) if not any(id(p) in behind for p in tower.get_submodule(name).parameters())]
    return sorted(fits)
