"""Who takes part in a training run, and its folder: what stands in it, who holds it, what it is bound to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import UserError

if TYPE_CHECKING:
    from data_tools.run.directory import RunDir

    from .config import TrainConfig

CHECKPOINTS, MODEL, OBJECTIVE = "checkpoints", "model", "objective.safetensors"
LOG, CURVES, SAMPLES = "log.jsonl", "curves.png", "samples.jsonl"
BROKEN, BROKEN_EVAL, BROKEN_SUITES = (f"quarantine/{name}.jsonl" for name in ("data", "eval_data", "eval_suites"))
OUTPUTS = (CHECKPOINTS, MODEL, LOG, CURVES, SAMPLES, OBJECTIVE, BROKEN, BROKEN_EVAL, BROKEN_SUITES)
CACHE, OWN_REFERENCE = ".mmalign/training_rows", ".mmalign/reference"  # gone when the run is finished
FINISHED = (".mmalign", "finished.json")
# what may differ between the starts of one run: where it runs and what it tells
UNBOUND = frozenset({"out", "overwrite", "dry_run", "device", "workers", "report_to", "log_steps", "keep", "micro_batch", "reference"})


def rank() -> int:
    """The number of this process among those that train together."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes train together (torchrun and accelerate launch say so)."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def run_folder(config: TrainConfig, root: Path) -> Iterator[RunDir | None]:
    """The run's folder, held by the first process; None in the others, which only write where the trainer tells them."""
    from data_tools.run.directory import open_run

    if rank() > 0:
        yield None
        return
    binding = {"config": config.model_dump(mode="json", by_alias=True, exclude=set(UNBOUND)), "source": sources(config)}
    with open_run(root, binding, OUTPUTS, overwrite=config.overwrite) as run_dir:
        yield run_dir


def sources(config: TrainConfig) -> dict[str, str]:
    """What the data is known by. UserError for a path that holds nothing readable."""
    from data_tools.io import SourceError
    from data_tools.run.directory import fingerprint

    from ...train.sources import shards_of

    try:
        shards = [shard for source in [*config.data, *config.eval_data] for shard in shards_of(source)]
    except SourceError as error:
        raise UserError(str(error)) from error
    return {shard.path: fingerprint(shard.path) for shard in shards}


@contextmanager
def joined(config: TrainConfig) -> Iterator[None]:
    """The processes that train together, the first one some steps ahead: it reads the data, the others find it read."""
    from accelerate import PartialState

    if world() == 1:
        yield
        return
    with PartialState(cpu=config.device == "cpu").main_process_first():
        yield
