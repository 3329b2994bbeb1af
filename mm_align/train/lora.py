"""Low-rank updates (LoRA, arXiv 2106.09685) by peft: put into the linear layers of a model's parts, and merged for export."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from .optim import PARTS, part_of

DEFAULTS = {"r": 128, "alpha": 256, "dropout": 0.05}  # LLaVA-1.5's


def apply_lora(model: nn.Module, options: Mapping[str, Any], parts: Collection[str] = ("language_model",)) -> nn.Module:
    """Puts low-rank updates into the linear layers of `parts`, in place; the model keeps its class. Returns it.

    options: r, alpha (updates are multiplied by alpha / r), dropout, targets (ends of layer names, "q_proj"; None: every
    linear layer of the parts but the output head). Everything is frozen but the updates; `train_only` says what else trains.
    The updates start at 0. ImportError without peft; ValueError for an unknown option, part or target.
    """
    _peft()
    from peft import LoraConfig, inject_adapter_in_model

    if unknown := sorted(set(options) - {*DEFAULTS, "targets"}):
        raise ValueError(f"LoRA has no option '{unknown[0]}'; known: {', '.join(DEFAULTS)}, targets")
    values = DEFAULTS | {key: value for key, value in options.items() if key != "targets"}
    layers = _layers(model, parts, options.get("targets"))
    config = LoraConfig(r=values["r"], lora_alpha=values["alpha"], lora_dropout=values["dropout"], target_modules=layers, bias="none")
    return inject_adapter_in_model(config, model).train(model.training)


def merge_lora(model: nn.Module) -> nn.Module:
    """Adds the updates of every layer to its weights and takes them out, in place: plain layers, as `export` needs them."""
    _peft()
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


def _layers(model: nn.Module, parts: Collection[str], targets: Sequence[str] | None) -> list[str]:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"unknown part {', '.join(unknown)}; a model has {', '.join(PARTS)}")
    linear = list(_linear(model, parts))
    for target in targets or ():
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            there = ", ".join(sorted({name.split(".")[-1] for name in linear}))
            raise ValueError(f"no linear layer of {', '.join(parts)} is called '{target}'; there are {there}")
    return [name for name in linear if targets is None or any(f".{name}".endswith(f".{target}") for target in targets)]


def _linear(model: nn.Module, parts: Collection[str]) -> Iterator[str]:
    """Names of linear layers. nn.MultiheadAttention reads the weights of its own past any update, so it keeps them."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    within = {id(child) for module in model.modules() if isinstance(module, nn.MultiheadAttention) for child in module.modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head and id(module) not in within and part_of(name) in parts:
            yield name


def _peft() -> None:
    if importlib.util.find_spec("peft") is None:
        raise ImportError("LoRA needs peft: pip install 'mm-align[lora]'")
