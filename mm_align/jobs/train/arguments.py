"""How a run's numbers come about: rows of a forward, steps of the run, precision, and the library's settings."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...config import UserError
from .folder import CHECKPOINTS

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from ..feedback.reference import ReferenceConfig
    from .config import TrainConfig
    from .setup import Ready

log = logging.getLogger(__name__)
LARGEST_GUESS = 8  # rows of one forward where nobody says


class Batches(NamedTuple):
    """How `batch_size` comes about: rows of a forward, forwards of a step; times the number of processes."""

    micro: int
    accumulation: int


def batches(batch_size: int, micro_batch: int | None, world: int) -> Batches:
    """UserError where `batch_size` is not micro_batch x processes x a whole number."""
    share, left = divmod(batch_size, world)
    if left:
        raise UserError(f"batch_size {batch_size} cannot be shared evenly by {world} processes; choose a multiple of {world}")
    micro = micro_batch or max(n for n in range(1, min(share, LARGEST_GUESS) + 1) if share % n == 0)
    if share % micro:
        each = f"batch_size {batch_size}" if world == 1 else f"batch_size {batch_size} over {world} processes ({share} each)"
        raise UserError(f"{each} is no multiple of micro_batch {micro}; change one of them")
    return Batches(micro, share // micro)


def total_steps(config: TrainConfig, items: int, world: int) -> int:
    """Optimiser steps of the run over a data set of `items` rows or packs, counted as the library does (an epoch's last may be short)."""
    if config.steps is not None:
        return config.steps
    micro, accumulation = batches(config.batch_size, config.micro_batch, world)
    forwards = math.ceil(math.ceil(items / micro) / world)  # of one process in an epoch
    return math.ceil(config.epochs * math.ceil(forwards / accumulation))


def in_bf16(config: TrainConfig | ReferenceConfig) -> bool:
    """Whether a run of this precision and device computes in bfloat16."""
    import torch

    gpu = torch.cuda.is_available() and config.device == "auto"
    return config.precision == "bf16" or (config.precision == "auto" and gpu)


def arguments(config: TrainConfig, root: Path, parts: Ready, world: int) -> TrainingArguments:
    """The library's settings for this run."""
    import torch
    from transformers import TrainingArguments

    from ...train.trainer import fsdp_config

    micro, accumulation = batches(config.batch_size, config.micro_batch, world)
    gpu = torch.cuda.is_available() and config.device == "auto"
    checkpointing = "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
    return TrainingArguments(
        output_dir=str(root / CHECKPOINTS),
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        max_steps=total_steps(config, len(parts.data), world),
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optimizer,
        bf16=in_bf16(config),
        fsdp=config.fsdp or None,
        fsdp_config=fsdp_config(parts.model) if config.fsdp else None,
        logging_steps=config.log_steps,
        save_steps=config.save_steps,
        eval_strategy="steps" if config.eval_data else "no",
        eval_steps=config.eval_steps,
        report_to=list(config.report_to),
        run_name=root.name,
        seed=config.seed,
        use_cpu=config.device == "cpu",
        train_sampling_strategy="sequential",  # TrainingSet orders its rows itself
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=gpu,
        disable_tqdm=not (sys.stderr.isatty() and log.isEnabledFor(logging.INFO)),
        log_level="warning",
        **{checkpointing: config.gradient_checkpointing},
    )
