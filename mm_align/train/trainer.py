"""transformers.Trainer that asks an objective for the loss, and knows no method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, gather_object
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ..losses import Objective
from .optim import parameter_groups, summary
from .own_optimizer import OwnOptimizer, write_tensors
from .schedules import Schedule
from .stand_in import stand_in_for

OBJECTIVE_FILE = "objective.safetensors"


class ObjectiveTrainer(Trainer):
    """Trains `model` (and the objective's own parameters) on `objective(model, batch).loss`.

    **Loss.** Micro-batch m of process r counts by its share of units: L = sum_mr units_mr loss_mr / sum_mr units_mr, so that 1 x 8, 8 x 1
    and 2 processes x 4 rows give the same gradients wherever the loss is a mean over `objective.units`. A term that is a
    mean over something else (entities, pairs) enters as the unit-weighted mean of its micro-batch means, and a contrast
    sees the rows of one micro-batch. A loss that is nan or infinite ends the run with FloatingPointError before the weights move.

    **The objective's parameters** start as process 0 has them, get gradients averaged over processes, are clipped to
    `max_grad_norm` by themselves (so that no head changes how the model is clipped), and go into checkpoints as
    `objective.safetensors`; `save_model` does not write it for exports. Under FSDP they are whole in every process, with an
    optimiser of their own. ValueError under DeepSpeed, and under FSDP with fp16. FSDP also gets a stand-in where a batch shows no
    picture (`StandIn`).

    **Metrics** are means over the units of the batches that gave them, over all processes; so is `eval_loss`. Several processes fill
    up the last batches of an evaluation with repeated rows: a batch of such rows has no weight, and one that holds both counts by
    its share of others (exact where the number of rows is a multiple of the batch size of one process).

    schedule: learning rates over the steps; None: what `args` say. lr_scale, lrs: see `parameter_groups`.

    What it overrides is public in the library: create_accelerator_and_postprocess, train, get_batch_samples, training_step,
    compute_loss, prediction_step, log, create_optimizer, create_scheduler, save_model, the attribute `loss_is_scaled_for_ga`,
    and one TrainerCallback.
    """

    optimizer: Any
    is_fsdp_enabled: bool
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        objective: Objective,
        *,
        schedule: Schedule | None = None,
        lr_scale: Mapping[str, float] | None = None,
        lrs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        args.remove_unused_columns = False  # batches are made from records by the collator
        args.logging_nan_inf_filter = False  # such a loss is an error here, not a gap in the log
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # a batch without pictures leaves the adapter out
        super().__init__(model, args, **kwargs)
        self.objective = objective.to(args.device)
        self.schedule = schedule
        self.lr_scale, self.lrs = dict(lr_scale or {}), dict(lrs or {})
        self._own = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        if self._own:
            self._share_own_parameters()
        self._sums: dict[str, dict[str, torch.Tensor]] = {"train": {}, "eval": {}}
        self._step_loss = torch.zeros((), device=args.device)
        self._stand_in = stand_in_for(self.model) if self.is_fsdp_enabled else None
        self._own_optimizer: OwnOptimizer | None = None
        self._continued: Path | None = None  # the checkpoint that `train` continues

    def _share_own_parameters(self) -> None:
        if self.is_deepspeed_enabled or (self.is_fsdp_enabled and self.args.fp16):
            where = "DeepSpeed" if self.is_deepspeed_enabled else "FSDP with fp16 (bf16 can)"
            raise ValueError(f"{type(self.objective).__name__} has parameters of its own, which {where} cannot train")
        self.add_callback(_ClipOwn(self._own))
        if self.args.world_size > 1:
            for tensor in self.objective.state_dict().values():
                dist.broadcast(tensor, src=0)

    def create_accelerator_and_postprocess(self) -> None:
        """The library's; and FSDP on CPUs, where accelerate would fall back to plain data parallelism without a word."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args is not None and not self.is_fsdp_enabled:
            for state in (PartialState(), self.accelerator.state):  # the second is refreshed from the first
                state.distributed_type = DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def summary(self) -> str:
        """The table of parts, parameters and learning rates that this run starts with."""
        return summary(self.model, self.objective, self._groups(self.model))

    # -- loss ------------------------------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | None]:
        """The micro-batches of one optimiser step, and their units over all processes. The library zeroes the model's
        gradients only, so the objective's are zeroed here."""
        self.objective.zero_grad()
        self._step_loss = torch.zeros_like(self._step_loss)
        batches = list(islice(epoch_iterator, num_batches))
        if not batches:
            return batches, None
        units = torch.stack([self.objective.units(batch).to(device) for batch in batches]).sum().float()
        total = self.accelerator.reduce(units) if self.args.world_size > 1 else units
        return batches, total.clamp(min=torch.finfo(total.dtype).tiny)  # a step without targets has loss 0, not nan

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        units = self.objective.units(inputs).to(self.args.device)  # before the forward: counting may wait for the device
        output = self.objective(model, inputs if self._stand_in is None else self._stand_in.fill(inputs))
        loss = output.loss
        if num_items_in_batch is not None:
            loss = loss * units / num_items_in_batch * self.args.world_size  # gradients are averaged over processes
            self._note("train", output.metrics, units)
        else:
            self._note("eval", {**output.metrics, "loss": loss}, units * self._share_of_new_rows())
        return (loss, output) if return_outputs else loss

    def _share_of_new_rows(self) -> float:
        """1, but less for an evaluation's last batches, which are filled up from the first rows so that every process has one."""
        place = self.accelerator.gradient_state
        if self.args.world_size == 1 or not place.end_of_dataloader or place.remainder <= 0:
            return 1.0
        rows = self.args.per_device_eval_batch_size
        return min(max(place.remainder - rows * self.args.process_index, 0), rows) / rows

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Loss and gradients of one micro-batch; with the step's last one, a look at its loss and the objective's gradients."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss += loss
        if self.accelerator.sync_gradients:
            self._require_finite_loss()
            self._average_own_gradients()
        return loss

    def _require_finite_loss(self) -> None:
        loss = self.accelerator.reduce(self._step_loss, "mean") if self.args.world_size > 1 else self._step_loss
        value = loss.item()
        if not math.isfinite(value):
            step = self.state.global_step + 1
            raise FloatingPointError(
                f"the loss of step {step} is {value}; the weights are still those of step {step - 1}. Lower the learning rate or warm up "
                f"longer, clip gradients (max_grad_norm), or look for what is unusual in the rows of this step"
            )

    def _average_own_gradients(self) -> None:
        """One exchange in a fixed order. A parameter that no process used keeps no gradient, as in a single process."""
        if self.args.world_size == 1 or not self._own:
            return
        used = torch.stack([torch.full((), float(p.grad is not None), device=p.device) for p in self._own])
        flat = torch.cat([used, *[(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self._own]])
        mean = self.accelerator.reduce(flat, "mean").split([len(self._own), *[p.numel() for p in self._own]])
        for parameter, share, gradient in zip(self._own, mean[0].tolist(), mean[1:], strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if share else None

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor, None, None]:
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    # -- metrics ---------------------------------------------------------------------------------------------------------

    def _note(self, kind: str, metrics: Mapping[str, torch.Tensor], units: torch.Tensor) -> None:
        sums = self._sums[kind]
        for name, value in metrics.items():
            pair = torch.stack([value.detach().to(units.device) * units, units]).float()
            sums[name] = sums[name] + pair if name in sums else pair

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the objective's metrics since the last call."""
        evaluated = next((key for key in logs if key.startswith("eval") and key.endswith("_loss")), None)
        if evaluated:
            logs |= {evaluated.removesuffix("loss") + name: value for name, value in self._means("eval").items()}
        elif "loss" in logs:
            logs |= self._means("train")
        super().log(logs, start_time)

    def _means(self, kind: str) -> dict[str, float]:
        sums, self._sums[kind] = self._sums[kind], {}
        names = sorted(set(gather_object(list(sums)))) if self.args.world_size > 1 else list(sums)  # batches may lack some metrics
        if not names:
            return {}
        table = torch.stack([sums.get(name, torch.zeros(2, device=self.args.device)) for name in names])
        total = self.accelerator.reduce(table) if self.args.world_size > 1 else table
        return {name: (value / units).item() for name, (value, units) in zip(names, total, strict=True) if units}

    # -- optimiser and schedule --------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups = self._groups(model)
            if self.is_fsdp_enabled and self._own:
                own = [group for group in groups if group["name"] == "objective"]
                self._add_own_optimizer(kind(own, **options))
                groups = [group for group in groups if group["name"] != "objective"]
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def _add_own_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._own_optimizer = OwnOptimizer(optimizer)
        if self._continued is not None:
            self._own_optimizer.load(self._continued)
        self.add_callback(self._own_optimizer)

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        rate, decay = self.args.learning_rate, self.args.weight_decay
        groups = parameter_groups(model, self.objective, lr=rate, weight_decay=decay, lr_scale=self.lr_scale, lrs=self.lrs)
        if not groups:
            raise ValueError("nothing trains: every parameter of the model is frozen and the objective has none; see `train_only`")
        return groups

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        schedule = self.schedule
        if schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)
        optimizer = self.optimizer if optimizer is None else optimizer
        self.lr_scheduler = LambdaLR(optimizer, lambda step: schedule.lr_factor(step, num_training_steps))
        return self.lr_scheduler

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The library's; in checkpoints (its internal calls) with the objective's state beside the model."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.args.should_save:
            self._save_objective(Path(output_dir))

    def _save_objective(self, folder: Path) -> None:
        if self.objective.state_dict():
            write_tensors(folder / OBJECTIVE_FILE, self.objective.state_dict())
        if self._own_optimizer is not None:
            self._own_optimizer.save(folder)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """The library's, which continues a checkpoint bit for bit, with the objective's state."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True  # without one, the library says so
        self._continued = Path(resume_from_checkpoint) if isinstance(resume_from_checkpoint, str) else None
        if self._continued is not None:
            self._load_objective(self._continued)
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_objective(Path(self.state.best_model_checkpoint))
        return result

    def _load_objective(self, folder: Path) -> None:
        if not self.objective.state_dict():
            return
        file = folder / OBJECTIVE_FILE
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: this checkpoint was not written for {type(self.objective).__name__}")
        self.objective.load_state_dict(load_file(file))


class _ClipOwn(TrainerCallback):
    """Clips the objective's gradients, when the library has clipped (and unscaled) the model's."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def on_pre_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if args.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.parameters, args.max_grad_norm)


def fsdp_config(model: nn.Module) -> dict[str, Any]:
    """`fsdp_config` of TrainingArguments for FSDP2: every kind of layer that the model says not to split, of those it has,
    is a unit; checkpoints hold the whole model."""
    kinds = {type(module).__name__ for module in model.modules()}
    wrapped = sorted(kinds & set(getattr(model, "_no_split_modules", None) or ()))
    return {"version": 2, "transformer_layer_cls_to_wrap": wrapped, "state_dict_type": "FULL_STATE_DICT", "reshard_after_forward": True}
