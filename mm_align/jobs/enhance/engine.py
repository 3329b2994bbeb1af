"""`mmalign enhance-data` with several workers: which engine, what its workers are given, and what they must agree on."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...config import UserError
from .results import Judged
from .source import LOOK_ROWS, keys_of

if TYPE_CHECKING:
    from data_tools.engines.schedule import Pool
    from data_tools.io import Shard
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Watch

    from .config import EnhanceConfig

log = logging.getLogger(__name__)
Setup = Callable[[], dict[str, Any]]


def wants_engine(config: EnhanceConfig) -> bool:
    """Whether other processes are to do the work."""
    return config.engine != "local" or (config.workers or 1) > 1


def check_engine(config: EnhanceConfig, backend: object) -> None:
    """UserError for options of engines that do not fit together, and for an engine that is not installed."""
    if config.engine != "ray" and (config.ray_address is not None or config.gpus_per_worker):
        flag = "--ray-address" if config.ray_address is not None else "--gpus-per-worker"
        raise UserError(f"{flag} has no effect without --engine ray")
    if config.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError(
            "engine ray needs Ray, which is not installed: pip install 'mm-align[ray]'; or share shards by --workers or --shard"
        )
    if wants_engine(config) and backend is not None:
        raise UserError("a model that is loaded already cannot travel to workers: give its name as `model`, or do without workers")


def run_engine(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, watch: Watch) -> Judged:
    """All rows judged, from when the first worker was ready. Raises as `data_tools.pipeline.run`."""
    from data_tools.engines.schedule import Schedule, WorkerFailed

    told: dict[str, Any] = {}
    ready: list[float] = []

    def meet(about: Mapping[str, Any]) -> None:
        ready.append(time.monotonic())
        for part, value in about["bound"].items():
            run_dir.bind(part, value)
        for key, value in about["told"].items():
            told.setdefault(key, value)

    def shrunk(rows: int) -> None:
        if rows < run_dir.record["resolved"]["batch_size"]:
            run_dir.remember("shrunk", {"batch_size": rows})

    wanted = wanted_rows(config, shards)
    pool, workers = _pool(config, shards, run_dir)
    schedule = Schedule(pool, workers, wanted, run_dir, watch, meet, shrunk)
    try:
        return Judged(schedule.run(), told, ready[0])
    except WorkerFailed as error:
        if error.kind == "UserError":
            raise UserError(str(error)) from error
        raise


def wanted_rows(config: EnhanceConfig, shards: Sequence[Shard]) -> list[tuple[Shard, int | None]]:
    """The shards that a run comes to, with the rows it wants of each; with --limit they are counted, as far as it reaches."""
    from itertools import islice

    from data_tools.io import read

    if config.limit is None:
        return [(shard, None) for shard in shards]
    wanted: list[tuple[Shard, int | None]] = []
    left = config.limit
    for shard in shards:
        if left == 0:
            break
        wanted.append((shard, left))
        rows = read(shard, **keys_of(config))
        left -= sum(1 for _ in islice(rows, left))
    return wanted


def _pool(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir) -> tuple[Pool, int]:
    """The workers' home, and how many there are to be."""
    from data_tools.engines import ENGINES
    from data_tools.engines.schedule import Wanted

    from .worker import build

    most = max(1, len(shards))  # a worker without a shard would only start
    workers = config.workers and min(config.workers, most)
    wanted = Wanted(workers, config.device in ("auto", "cuda"), config.ray_address, config.gpus_per_worker)
    found: tuple[Pool, int] = import_module(f"data_tools.engines.{ENGINES[config.engine]}").pool(
        build, _setup(config, shards, run_dir), run_dir, wanted
    )
    return found


def _setup(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir) -> Setup:
    """What a worker is given; the first one to start also looks at the first rows."""
    starts = 0

    def setup() -> dict[str, Any]:
        nonlocal starts
        starts += 1
        return {
            "config": config.model_dump(mode="json"),
            "root": str(run_dir.root.absolute()),
            "record": run_dir.record,
            "shards": [dataclasses.asdict(shard) for shard in shards[:LOOK_ROWS]],
            "first": starts == 1,
            "level": logging.getLogger("mm_align").getEffectiveLevel(),
        }

    return setup
