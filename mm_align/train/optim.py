"""Which parameters train, and in which optimiser group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from ..models import LvlmModel

PARTS: dict[str, tuple[str, ...]] = {
    "vision_tower": ("vision_tower", "more_towers"),
    "adapter": ("adapter",),
    "language_model": ("language_model", "lm_head"),
}


def part_of(name: str) -> str:
    """The part of the model that the parameter `name` belongs to; "other" where it is none of `PARTS`."""
    pieces = name.split(".")
    return next((part for part, marks in PARTS.items() if any(mark in pieces for mark in marks)), "other")


def train_only(model: nn.Module, parts: Collection[str]) -> None:
    """Freeze everything but the named parts of a model, and the layers of its tower that nothing reads (DDP waits for
    the gradient of every parameter that trains). ValueError for an unknown part."""
    _known(parts, PARTS)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in parts)
    for module in model.modules():
        for parameter in module.unread() if isinstance(module, LvlmModel) else ():
            parameter.requires_grad_(False)


def parameter_groups(
    model: nn.Module, objective: nn.Module, *, lr: float, weight_decay: float, lr_scale: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups for the optimiser: each part with and without weight decay (decay falls on matrices only), then `objective`.

    lr_scale multiplies `lr` for a part ("objective" is one too). ValueError for an unknown part.
    """
    scale = lr_scale or {}
    _known(scale, [*PARTS, "other", "objective"])
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for part, parameter in _named(model, objective):
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((part, decay), []).append(parameter)
    return [
        {"params": params, "lr": lr * scale.get(part, 1.0), "weight_decay": decay, "name": part} for (part, decay), params in groups.items()
    ]


def _known(parts: Collection[str], known: Collection[str]) -> None:
    unknown = sorted(set(parts) - set(known))
    if unknown:
        raise ValueError(f"unknown part {', '.join(unknown)}; a model has {', '.join(known)}")


def _named(model: nn.Module, objective: nn.Module) -> list[tuple[str, nn.Parameter]]:
    inside = [(part_of(name), p) for name, p in model.named_parameters() if p.requires_grad]
    return inside + [("objective", p) for p in objective.parameters() if p.requires_grad]
