"""transformers.Trainer that asks an objective for the loss, and knows no method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainingArguments

from ..losses import Objective
from .optim import parameter_groups

OBJECTIVE_FILE = "objective.safetensors"


class ObjectiveTrainer(Trainer):
    """Trains `model` (and the objective's own parameters) on `objective(model, batch).loss`.

    Micro-batches of one optimiser step are weighted by `objective.units`, so that accumulation equals one large batch.
    The objective's state goes into training checkpoints as `objective.safetensors`; `save_model` does not write it.
    lr_scale: see `parameter_groups`.
    """

    optimizer: Any

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        objective: Objective,
        *,
        lr_scale: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        args.remove_unused_columns = False  # batches are made from records by the collator
        super().__init__(model, args, **kwargs)
        if args.world_size > 1 and any(p.requires_grad for p in objective.parameters()):
            raise ValueError("an objective with parameters trains in one process only: its gradients would not be averaged")
        self.objective = objective.to(args.device)
        self.lr_scale = dict(lr_scale or {})
        self.model_accepts_loss_kwargs = True  # the loss below is scaled for gradient accumulation already
        self._sums: dict[str, dict[str, torch.Tensor]] = {"train": {}, "eval": {}}

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one optimiser step. The library zeroes the model's gradients only, so the objective's are zeroed here."""
        self.objective.zero_grad()
        return super().get_batch_samples(*args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        units = torch.stack([self.objective.units(batch).to(device) for batch in batch_samples]).sum()
        return self.accelerator.gather(units).sum() if self.args.world_size > 1 else units

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        output = self.objective(model, inputs)
        units = self.objective.units(inputs)
        self._note(output.metrics, units)
        loss = output.loss
        if num_items_in_batch is not None and model.training:
            loss = loss * units / num_items_in_batch * self.args.world_size  # DDP averages over processes
        return (loss, output) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor, None, None]:
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def _note(self, metrics: Mapping[str, torch.Tensor], units: torch.Tensor) -> None:
        sums = self._sums["train" if self.model.training else "eval"]
        for name, value in {**metrics, "": torch.ones_like(units)}.items():
            sums[name] = sums.get(name, torch.zeros_like(units)) + value.detach() * units

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the objective's metrics since the last call: means over units, over all processes."""
        if "loss" in logs:
            logs |= self._means("train", "")
        if "eval_loss" in logs:
            logs |= self._means("eval", "eval_")
        super().log(logs, start_time)

    def _means(self, kind: str, prefix: str) -> dict[str, float]:
        sums, self._sums[kind] = self._sums[kind], {}
        if self.args.world_size > 1:
            sums = {name: self.accelerator.reduce(value) for name, value in sums.items()}
        total = sums.pop("", torch.ones(()))
        return {prefix + name: (value / total).item() for name, value in sums.items()}

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self._new_optimizer(self.model if model is None else model)
        return self.optimizer

    def _new_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        rate, decay = self.args.learning_rate, self.args.weight_decay
        return kind(parameter_groups(model, self.objective, lr=rate, weight_decay=decay, lr_scale=self.lr_scale), **options)

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        return self.accelerator.clip_grad_norm_(_both(model, self.objective), self.args.max_grad_norm)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and self.objective.state_dict():
            save_file(self.objective.state_dict(), Path(output_dir) / OBJECTIVE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.objective.state_dict():
            self._load_objective(Path(checkpoint) / OBJECTIVE_FILE)

    def _load_objective(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: this checkpoint was not written for {type(self.objective).__name__}")
        self.objective.load_state_dict(load_file(file))


def _both(model: nn.Module, objective: nn.Module) -> Iterable[nn.Parameter]:
    return [*model.parameters(), *objective.parameters()]
