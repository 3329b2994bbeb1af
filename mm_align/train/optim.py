"""Which parameters train, in which optimiser group, and the table that says so."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..models import LvlmModel

PARTS: dict[str, tuple[str, ...]] = {
    "vision_tower": ("vision_tower", "more_towers"),
    "adapter": ("adapter",),
    "language_model": ("language_model", "lm_head"),
}
LORA = "lora_"  # peft's: the piece of a name that marks a low-rank parameter


def part_of(name: str) -> str:
    """The part of the model that the parameter `name` belongs to, the outermost where several could be meant; "other" where
    it is none of `PARTS`. Low-rank parameters belong to the part they sit in."""
    part_of_piece = {mark: part for part, marks in PARTS.items() for mark in marks}
    return next((part_of_piece[piece] for piece in name.split(".") if piece in part_of_piece), "other")


def is_lora(name: str) -> bool:
    """Whether `name` is a low-rank parameter that peft put into a layer."""
    return any(piece.startswith(LORA) for piece in name.split("."))


def train_only(model: nn.Module, chosen: Collection[str]) -> None:
    """Freeze everything but what is chosen, and the tower parameters that nothing reads (DDP waits for the gradient of
    every parameter that trains).

    An entry is a part of `PARTS`, or a pattern of parameter names in which * stands for anything: whole names, their ends,
    or the modules they lie in ("language_model.layers.3", "lm_head.*", "*.bias"). Of a part with low-rank updates only
    those train. ValueError for an entry that names nothing, and for low-rank updates that no entry trains.
    """
    names = _names(model)
    _known_entries(chosen, [name for group in names.values() for name in group])
    low_rank = {part_of(group[0]) for group in names.values() if is_lora(group[0])}
    for parameter, group in names.items():
        parameter.requires_grad_(any(_trains(group, entry, low_rank) for entry in chosen))
    idle = sorted({part_of(group[0]) for parameter, group in names.items() if is_lora(group[0]) and not parameter.requires_grad})
    if idle:
        raise ValueError(f"low-rank updates sit in {', '.join(idle)}, which is not chosen to train; name it, or put none there")
    for module in model.modules():
        for parameter in module.unread() if isinstance(module, LvlmModel) else ():
            parameter.requires_grad_(False)


def _names(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    """Every parameter once, with all the names it goes by (a tied head has two)."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names


def _trains(names: Sequence[str], entry: str, low_rank: Collection[str]) -> bool:
    if entry in PARTS:
        return part_of(names[0]) == entry and (entry not in low_rank or is_lora(names[0]))
    return any(_matches(name, entry) for name in names)


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, form) for form in (pattern, f"*.{pattern}", f"{pattern}.*", f"*.{pattern}.*"))


def _known_entries(chosen: Collection[str], names: Sequence[str]) -> None:
    for entry in sorted(chosen):
        if entry not in PARTS and not any(_matches(name, entry) for name in names):
            modules = {".".join(name.split(".")[:k]) for name in names for k in range(1, name.count(".") + 2)}
            near = difflib.get_close_matches(entry, [*PARTS, *modules], n=2)
            hint = f" (near it: {', '.join(near)})" if near else f" ({names[0]})" if names else ""
            raise ValueError(f"unknown part {entry}; a model has {', '.join(PARTS)}, or give a pattern that its parameter names fit{hint}")


def parameter_groups(
    model: nn.Module,
    objective: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    lr_scale: Mapping[str, float] | None = None,
    lrs: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups for the optimiser: each part with and without weight decay (decay falls on matrices only), then `objective`.

    A part's rate is `lrs[part]`, or `lr` times `lr_scale[part]`; "objective" and "other" are parts too. A parameter that
    several modules share is in one group, once. ValueError for an unknown part, or one with both a rate and a scale.
    """
    rates, scale = lrs or {}, lr_scale or {}
    for given in (rates, scale):
        _known_parts(given)
    if both := sorted(set(rates) & set(scale)):
        raise ValueError(f"{', '.join(both)} has a learning rate and a scale of the common one; give one of them")
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for part, parameter in _training(model, objective):
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((part, decay), []).append(parameter)
    return [
        {"params": params, "lr": rates.get(part, lr * scale.get(part, 1.0)), "weight_decay": decay, "name": part}
        for (part, decay), params in groups.items()
    ]


def _known_parts(parts: Iterable[str]) -> None:
    known = [*PARTS, "other", "objective"]
    if unknown := sorted(set(parts) - set(known)):
        raise ValueError(f"unknown part {', '.join(unknown)}; a model has {', '.join(known)}")


def _training(model: nn.Module, objective: nn.Module) -> list[tuple[str, nn.Parameter]]:
    inside = [(part_of(name), p) for name, p in model.named_parameters() if p.requires_grad]
    return inside + [("objective", p) for p in objective.parameters() if p.requires_grad]


def summary(model: nn.Module, objective: nn.Module, groups: Sequence[Mapping[str, Any]]) -> str:
    """A table of the parts: parameters (shared ones once), how many of them train, peak learning rate and weight decay.

    groups: what `parameter_groups` gave.
    """
    sizes: dict[str, int] = {}
    for part, parameter in [(part_of(n), p) for n, p in model.named_parameters()] + [("objective", p) for p in objective.parameters()]:
        sizes[part] = sizes.get(part, 0) + parameter.numel()
    rows = [_row(part, sizes[part], [g for g in groups if g["name"] == part]) for part in [*PARTS, "other", "objective"] if part in sizes]
    trainable = sum(parameter.numel() for group in groups for parameter in group["params"])
    head = ("part", "parameters", "trainable", "lr", "weight decay")
    return _table([head, *rows, ("total", f"{sum(sizes.values()):,}", f"{trainable:,}", "", "")])


def _row(part: str, size: int, groups: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if not groups:
        return part, f"{size:,}", "0", "-", "-"
    trainable = sum(parameter.numel() for group in groups for parameter in group["params"])
    return part, f"{size:,}", f"{trainable:,}", f"{groups[0]['lr']:g}", f"{max(group['weight_decay'] for group in groups):g}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
