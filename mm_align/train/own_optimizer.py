"""A second optimiser for the objective's parameters, where the model's has no place for them: FSDP's knows the model's only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainingArguments

from data_tools.disk.durable import put_in_place, sync

FILE = "objective_optimizer.safetensors"


class OwnOptimizer(TrainerCallback):
    """Steps `optimizer` with the model's, at the same share of its peak learning rates. Every process holds all of it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.peaks = [group["lr"] for group in optimizer.param_groups]

    def on_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        share = _share_of_peak(kwargs["optimizer"])
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share
        self.optimizer.step()

    def save(self, folder: Path) -> None:
        """Write its state into a checkpoint."""
        state = self.optimizer.state_dict()["state"]
        tensors = {
            f"{k}.{key}": torch.as_tensor(value) for k, values in state.items() for key, value in values.items() if value is not None
        }
        write_tensors(folder / FILE, tensors)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint; FileNotFoundError where it has no such state."""
        if not (folder / FILE).is_file():
            raise FileNotFoundError(f"{folder / FILE} is missing: this checkpoint was written without FSDP, or for another objective")
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in load_file(folder / FILE).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})


def _share_of_peak(optimizer: torch.optim.Optimizer) -> float:
    """Where the schedule stands: the learning rate of a group over the one it started from."""
    return next((group["lr"] / group["initial_lr"] for group in optimizer.param_groups if group.get("initial_lr")), 1.0)


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file that appears whole or not at all."""
    temporary = file.with_name(f".{file.name}")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    sync(temporary)
    put_in_place(temporary, file)
