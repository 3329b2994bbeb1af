"""Steps over samples, shard by shard: every row ends in the output or in quarantine, and a killed run continues where it was.

Pass 1 (`judging.judge_shard`) reads fixed blocks of the input order, decodes their pictures one block ahead of the model, and
journals what the step decided. Pass 2 (`finalising.finalise_shard`) reads the source again, joins it with the journal and renders
output, quarantine and statistics. Where a plan has filters, a scan of all shards comes first (`filters.scan`). What pass 2 writes is
a function of source and journal alone, so it can be killed and repeated.
Shards do not depend on one another but for the ids seen before them: an engine may call `judge_shard` in any order.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .disk.durable import is_disk_full, read_json
from .io import Shard, extension
from .report.stats import Stats
from .run.directory import RunDir, RunStopped
from .run.finalising import finalise_shard
from .run.judging import judge_shard
from .run.plan import Plan, Summary, Watch, check_identity
from .run.seen_ids import SeenIds

if TYPE_CHECKING:
    from .filters.scan import Scan


def outputs_of(shards: Sequence[Shard], format: str | None) -> list[str]:
    """The files that a run over these shards puts into its folder for them, relative to it; `format` None keeps each shard's own."""
    return [path for s in shards for path in (f"{s.name}{extension(format or s.format)}", f"quarantine/{s.name}.jsonl")]


def run(shards: Sequence[Shard], plan: Plan, run_dir: RunDir, watch: Watch) -> Summary:
    """Judge and finalise every shard that is not done; the summary of all. Raises RunStopped (resumable) and RunRefused."""
    with _collecting_rarely() if plan.by_scan else contextlib.nullcontext():
        return _run(shards, plan, run_dir, watch)


@contextlib.contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Rows and what is told of them make no cycles; to look for some after every 700 new objects takes 2 % of a run that asks no model."""
    before = gc.get_threshold()
    gc.set_threshold(10_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _run(shards: Sequence[Shard], plan: Plan, run_dir: RunDir, watch: Watch) -> Summary:
    if plan.scan is not None:
        scan(shards, plan, plan.scan, run_dir, watch)
    if plan.calibration is not None:
        calibrate(shards, plan, run_dir, watch)
    reopen(shards, run_dir)
    seen, total = SeenIds(), Summary()
    for shard in shards:
        left = None if plan.limit is None else plan.limit - total.rows
        if left == 0:
            break
        total = total.plus(process_shard(shard, plan, run_dir, seen, watch, limit=left))
    check_identity(total, "the run")
    return total


def reopen(shards: Sequence[Shard], run_dir: RunDir) -> None:
    """Have those shards finalised again that were finalised without the ids of one before them, which no worker had survived."""
    without = set(run_dir.record.get("without", ()))
    first = next((i for i, shard in enumerate(shards) if shard.name in without), len(shards))
    for shard in shards[first + 1 :]:
        run_dir.unmark(shard.name)
    if without:
        run_dir.remember("without", [])


def scan(shards: Sequence[Shard], plan: Plan, scan: Scan, run_dir: RunDir, watch: Watch) -> None:
    """Tell of every row of all shards and compare them, as far as that is not done."""
    from .filters.scan import scan_shard
    from .filters.settling import settle

    rows, scanned = 0, []
    with stopping_on_full_disk(run_dir.root):
        for shard in shards:
            if plan.limit is not None and rows >= plan.limit:
                break
            rows += scan_shard(shard, plan, run_dir, watch, limit=None if plan.limit is None else plan.limit - rows)
            scanned.append(shard)
        settle(scanned, scan, run_dir)


def calibrate(shards: Sequence[Shard], plan: Plan, run_dir: RunDir, watch: Watch) -> None:
    """Let the model judge a sample of the rows, by which a cascade learns what it may decide, as far as that is not done."""
    from .filters import calibrating

    with stopping_on_full_disk(run_dir.root):
        calibrating.calibrate(shards, plan, run_dir, watch)


def process_shard(shard: Shard, plan: Plan, run_dir: RunDir, seen: SeenIds, watch: Watch, *, limit: int | None = None) -> Summary:
    """Both passes over one shard, or what its done marker says; `seen` then holds its ids too."""
    done = run_dir.done(shard.name)
    if done is None:
        with stopping_on_full_disk(run_dir.root):
            judge_shard(shard, plan, run_dir, watch, limit=limit)
            done = finalise_shard(shard, plan, run_dir, seen.repeated, watch).to_dict()
            run_dir.mark_done(shard.name, done)
    else:
        watch.counts.update(keep=done["kept"], rewrite=done["rewritten"], rejected=done["quarantined"])
        watch.tell(shard.name)
    seen.add(np.fromfile(run_dir.ids(shard.name), dtype="<u8"))
    return Summary.from_dict(done)


def merged_stats(shards: Sequence[Shard], run_dir: RunDir, seed: int) -> Stats:
    """The statistics of all finished shards together."""
    total = Stats(seed)
    for shard in shards:
        part = read_json(run_dir.stats(shard.name))
        if part is not None:
            total.merge(Stats.from_dict(part))
    return total


@contextlib.contextmanager
def stopping_on_full_disk(root: Path) -> Iterator[None]:
    """Turn a full disk into RunStopped: what is committed stays, and the same command continues."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RunStopped(
            f"no space left to write to '{root}' ({error.strerror}). Everything judged so far is kept: "
            f"free some space and run the same command to continue"
        ) from error
