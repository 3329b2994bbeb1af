"""`mmalign train --dry-run`: what would train, on what, for how long, in how much memory; nothing is written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import batches, in_bf16, total_steps
from .setup import Ready, ready

if TYPE_CHECKING:
    from ...models.batch import Tokens
    from .config import TrainConfig

SHOWN_PARTS = 24  # lines of the first row, at most


def dry_run(config: TrainConfig) -> list[str]:
    """The table of parameters, the first row as the model sees it, the steps, the memory of weights and optimiser."""
    from ...train.optim import parameter_groups, summary

    with tempfile.TemporaryDirectory(prefix="mmalign-train-") as folder:
        parts = ready(config, Path(folder), world=1)
        groups = parameter_groups(parts.model, parts.objective, lr=config.lr, weight_decay=config.weight_decay, lrs=config.lrs)
        told = [summary(parts.model, parts.objective, groups), "", parts.data.summary(), "", *first_row(parts), ""]
        return [*told, steps(config, parts), memory(config, parts, groups), "dry run: nothing was written"]


def first_row(parts: Ready) -> list[str]:
    """The first row in pieces, of a pair both conversations: `+` marks what a loss falls on; placeholders of a picture are counted,
    not repeated."""
    item: Any = parts.data[0]
    row = item[0] if isinstance(item, list) else item
    both = [("chosen", row.chosen), ("rejected", row.rejected)] if parts.objective.records == "pairs" else [("", row.encoded)]
    return [line for name, tokens in both for line in pieces(parts, f"'{row.sample.id}'" + (name and f", {name}"), tokens)]


def pieces(parts: Ready, name: str, tokens: Tokens) -> list[str]:
    """A conversation under its name, one line for consecutive tokens that all train, or all do not."""
    mark = parts.processor.image_token
    lines = [f"the first row, {name} ({len(tokens.ids)} tokens; + is what a loss falls on):"]
    for trains, ids in runs([int(i) for i in tokens.ids], [bool(t) for t in tokens.trains]):
        text = parts.processor.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        count = text.count(mark)
        shown = text.replace(mark * count, f"{mark} x {count}") if count > 1 else text
        lines.append(f"  {'+' if trains else ' '} {shown!r}")
    return lines if len(lines) <= SHOWN_PARTS else [*lines[:SHOWN_PARTS], "    ..."]


def runs(ids: list[int], trains: list[bool]) -> list[tuple[bool, list[int]]]:
    """Consecutive tokens that all train, or all do not."""
    found: list[tuple[bool, list[int]]] = []
    for token, value in zip(ids, trains, strict=True):
        if not found or found[-1][0] != value:
            found.append((value, []))
        found[-1][1].append(token)
    return found


def steps(config: TrainConfig, parts: Ready) -> str:
    """How many steps, of how many rows."""
    micro, accumulation = batches(config.batch_size, config.micro_batch, 1)
    what = "pairs" if parts.objective.records == "pairs" else "packs" if parts.data.packed else "rows"
    total = total_steps(config, len(parts.data), 1)
    epochs = total * config.batch_size / len(parts.data)
    return f"{total:,} steps of {config.batch_size} {what} ({micro} a forward x {accumulation}, one process): {epochs:.2f} epochs"


def memory(config: TrainConfig, parts: Ready, groups: list[dict[str, Any]]) -> str:
    """Bytes of weights, gradients and optimiser in one process, as `mmalign memory` counts them."""
    from ...models.memory import GIB
    from ...train.footprint import Step, sizes_of, states

    sizes = sizes_of(parts.model)._replace(trained=sum(p.numel() for group in groups for p in group["params"]))  # the objective's too
    held = states(sizes, Step(1, 1, 1, bf16=in_bf16(config), fsdp=config.fsdp, optimizer=config.optimizer))
    weights, moving = (held.frozen_bytes + held.trained_bytes) / GIB, (held.gradients + held.moments) / GIB
    return f"memory: {weights:.2f} GiB of weights + {moving:.2f} GiB of gradients and optimiser; `mmalign memory` counts activations too"
