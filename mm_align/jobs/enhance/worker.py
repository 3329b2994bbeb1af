"""A worker of `mmalign enhance-data`: the model and the plan that a process or actor makes for itself of the run's configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config import load
from ..endpoint_costs import Spent
from ..endpoint_fields import endpoint_options
from .config import EnhanceConfig
from .setup import ready
from .source import about_data, refuse_taken_fields

PACKAGES = ("mm_align", "data_tools", "vision", "video")


def build(setup: Mapping[str, Any]) -> Any:
    """The `data_tools.engines.tasks.Worker` of a setup {config, root, record, shards (the first ones), first, level}.

    `about`: {"bound": what the run is bound to, "told": for the report, "scan", "calibration": whether the plan has these}.
    """
    from data_tools.engines.tasks import Worker
    from data_tools.io import Shard
    from data_tools.run.directory import BorrowedDir

    start_logging(setup["level"] if setup["first"] else max(setup["level"], logging.WARNING))
    config = load(EnhanceConfig, setup["config"])
    run_dir = BorrowedDir(Path(setup["root"]), setup["record"])
    asking = endpoint_options(config, run_dir.requests)
    spent = Spent(run_dir, asking.usage)
    backend, plan, told = ready(config, run_dir, None, asking)
    if setup["first"]:
        shards = [Shard(**shard) for shard in setup["shards"]]
        refuse_taken_fields(shards, plan)
        told |= about_data(config, shards, plan, backend)
    about = {"bound": run_dir.bound, "told": told, "scan": plan.scan is not None, "calibration": plan.calibration is not None}
    return Worker(plan, run_dir, about, lambda: getattr(backend, "batch_size", None), spent.remember)


def start_logging(level: int) -> None:
    """A worker speaks on stderr as the command does; what all would say alike, only the first does."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)
