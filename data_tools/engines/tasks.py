"""What a worker does for an engine: one task over one shard at a time, by a plan that it made itself.

Every task is idempotent: what it leaves on disk is a function of source, configuration and model, and a task that was cut short goes on
where it was. Only paths and names travel to a worker, and counts back; rows never do.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..disk.durable import write_atomic
from ..io import Shard
from ..records import Sample, Verdict
from ..run.directory import RunDir, RunStopped
from ..run.finalising import finalise_shard
from ..run.judging import judge_shard
from ..run.plan import Plan, Step, Watch
from ..run.seen_ids import judged_ids

Message = dict[str, Any]  # JSON-able
TELL_EVERY = 0.1  # seconds


class Worker(NamedTuple):
    """A worker's own model and plan, on a run's directory. `about`: JSON that tells whoever started it what they are. `after_block` is
    called after each block, and at the end of a task whatever became of it."""

    plan: Plan
    run_dir: RunDir
    about: Mapping[str, Any]
    batch_rows: Callable[[], int | None] = lambda: None  # how many rows the model still takes at once, after memory ran out
    after_block: Callable[[], None] = lambda: None


Build = Callable[[Mapping[str, Any]], Worker]  # a function at the top of a module, so that its name is enough to find it


class Task(NamedTuple):
    """`kind` is a key of KINDS, `shard` None for what concerns all shards; `rest` are the further arguments of its function."""

    kind: str
    shard: Shard | None
    rest: Message

    @property
    def name(self) -> str:
        return self.kind if self.shard is None else self.shard.name

    def to_message(self) -> Message:
        return {"kind": self.kind, "shard": None if self.shard is None else dataclasses.asdict(self.shard), **self.rest}


def perform(worker: Worker, message: Mapping[str, Any], stop: Callable[[], bool], tell: Callable[[Message], None]) -> Message:
    """Do a task and return its result beside the counts; `tell` gets the counts meanwhile. Raises RunStopped, RunRefused, OSError, ..."""
    from ..pipeline import stopping_on_full_disk

    task = dict(message)
    kind, shard, claim = task.pop("kind"), task.pop("shard"), task.pop("claim", None)
    if claim is not None:
        worker, stop = _claimed(worker, shard["name"], claim, stop)
    watch, told = Watch(stop), time.monotonic()

    def progress(_: object) -> None:
        nonlocal told
        worker.after_block()
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            tell(_counts(watch))

    watch.progress = progress
    with stopping_on_full_disk(worker.run_dir.root):
        try:
            result = KINDS[kind](worker, *([Shard(**shard)] if shard else []), watch, **task)
        finally:
            worker.after_block()
    return {"result": result, **_counts(watch), "batch_rows": worker.batch_rows()}


def _counts(watch: Watch) -> Message:
    """Of this task so far."""
    counts = {"counts": dict(watch.counts), "fresh": watch.fresh_rows, "seconds": watch.step_seconds}
    return {**counts, "scanned": watch.scanned_rows}


def _claimed(worker: Worker, name: str, claim: str, stop: Callable[[], bool]) -> tuple[Worker, Callable[[], bool]]:
    """The worker as one who writes nothing once the shard was given to another: it may be thought dead, cut off from the others."""
    path, step = worker.run_dir.claim(name), worker.plan.step

    def lost() -> bool:
        return path.read_text(encoding="ascii") != claim

    def mine(samples: Sequence[Sample]) -> Sequence[Verdict]:
        verdicts = step(samples)
        if lost():
            raise RunStopped(f"shard '{name}' was given to another worker")
        return verdicts

    fenced: Step = mine
    return worker._replace(plan=dataclasses.replace(worker.plan, step=fenced)), lambda: stop() or lost()


def _scan(worker: Worker, shard: Shard, watch: Watch, limit: int | None) -> int:
    from ..filters.scan import scan_shard

    return scan_shard(shard, worker.plan, worker.run_dir, watch, limit=limit)


def _settle(worker: Worker, watch: Watch, shards: Sequence[Mapping[str, Any]]) -> None:
    from ..filters.settling import settle

    if worker.plan.scan is not None:
        settle([Shard(**shard) for shard in shards], worker.plan.scan, worker.run_dir)


def _calibrate(worker: Worker, watch: Watch, shards: Sequence[Mapping[str, Any]]) -> None:
    from ..filters.calibrating import calibrate

    calibrate([Shard(**shard) for shard in shards], worker.plan, worker.run_dir, watch)


def _judge(worker: Worker, shard: Shard, watch: Watch, limit: int | None) -> None:
    judge_shard(shard, worker.plan, worker.run_dir, watch, limit=limit)
    write_atomic(worker.run_dir.ids(shard.name), judged_ids(shard, worker.run_dir).tobytes())


def _finalise(worker: Worker, shard: Shard, watch: Watch, repeated: Sequence[int]) -> Message:
    def mask(ids: np.ndarray) -> np.ndarray:
        came_before = np.zeros(len(ids), dtype=bool)
        came_before[list(repeated)] = True
        return came_before

    return finalise_shard(shard, worker.plan, worker.run_dir, mask, watch).to_dict()


KINDS: Mapping[str, Callable[..., Any]] = {
    "scan": _scan,
    "settle": _settle,
    "calibrate": _calibrate,
    "judge": _judge,
    "finalise": _finalise,
}
