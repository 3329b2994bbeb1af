"""`mmalign enhance-data`: judge every caption against its picture, rewrite the poor ones, lose no row.

What surrounds the run has files of its own, in the order in which a run comes by them: `config`, `remote` (an output that is a store),
`setup` (options, model, step, plan), `engine`, `source` (a first look at the data), `dry_run`, `slices`, `results`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import load, to_yaml
from ..endpoint_costs import PRICES, Spent
from ..endpoint_fields import endpoint_options
from ..run_errors import user_errors
from .config import EnhanceConfig
from .dry_run import dry_run
from .engine import check_engine, run_engine, wants_engine
from .remote import bring, made_here
from .results import EnhanceReport, Judged, conclude
from .setup import check_options, ready, remember_batch
from .slices import described, place_of
from .source import about_data, refuse_absent_fields, refuse_taken_fields, shards_of, warn_of_touched

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.io import Shard
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Watch

__all__ = ["EnhanceConfig", "enhance", "run"]
log = logging.getLogger(__name__)
UNBOUND = frozenset(
    {
        *("source", "out", "overwrite", "dry_run", "scratch", "engine", "workers", "ray_address", "gpus_per_worker", "shard"),
        *("concurrency", "timeout", "request_cache", "fast_pictures", *PRICES),
    }
)  # may differ between the starts of one run


def enhance(source: str | Path, out: str | Path, *, backend: Backend | None = None, **options: Any) -> EnhanceReport:
    """`mmalign enhance-data SOURCE --out OUT` in Python; `options` are the fields of `EnhanceConfig`.

    `backend`: a model that is already loaded; `model` then only names it for the run's configuration.
    Raises UserError for bad input, `Stopped` when the run stopped in a state from which the same call continues.
    """
    return perform(load(EnhanceConfig, {"source": str(source), "out": str(out), **options}), backend)


def run(config: EnhanceConfig) -> EnhanceReport:
    """Do what the config says and print what came of it. Raises UserError and `Stopped` (see `enhance`)."""
    report = perform(config)
    for line in report.lines():
        print(line)
    return report


def perform(config: EnhanceConfig, backend: Backend | None = None) -> EnhanceReport:
    """`run` without printing, and with a model that may be loaded already."""
    here = made_here(config)
    check_options(here)
    check_engine(here, backend)
    with user_errors(Path(here.out)):
        shards = shards_of(here)
        refuse_absent_fields(here, shards)
        if here.dry_run:
            return EnhanceReport(Path(here.out), None, table=dry_run(here, shards, backend))
        report = _run(here, shards, backend)
        if here is not config:
            bring(config)
        return report


def _run(config: EnhanceConfig, shards: Sequence[Shard], backend: Backend | None) -> EnhanceReport:
    """The run in its folder: begun, continued, or finished already."""
    from data_tools.pipeline import outputs_of
    from data_tools.run.directory import open_run

    root, shards, part = place_of(config, shards)
    with open_run(root, _binding(config, shards, part), outputs_of(shards, config.format), overwrite=config.overwrite) as run_dir:
        done = [shard for shard in shards if run_dir.done(shard.name) is not None]
        run_dir.refuse_missing(outputs_of(done, config.format))
        if part:
            run_dir.remember("given", config.model_dump(include={"source", *PRICES}))
            run_dir.remember("shards", described(shards))
        warn_of_touched(run_dir, shards)
        if run_dir.condition == "finished":
            return _already_finished(run_dir)
        return _judge_all(config, shards, run_dir, backend) if shards else _nothing_to_do(run_dir)


def _binding(config: EnhanceConfig, shards: Sequence[Shard], part: Mapping[str, Any]) -> dict[str, Any]:
    """What two starts of one run must have in common; part: of a slice."""
    from data_tools.run.directory import fingerprint

    source = {shard.name: fingerprint(shard.path) for shard in shards}
    return {"config": config.model_dump(mode="json", exclude=set(UNBOUND)), "source": source, **part}


def _nothing_to_do(run_dir: RunDir) -> EnhanceReport:
    """A slice of a source that has fewer shards than slices."""
    from data_tools.run.plan import Summary

    run_dir.finish(Summary().to_dict())
    return EnhanceReport(run_dir.root, None, table=["this slice has no shards; it is done"])


def _already_finished(run_dir: RunDir) -> EnhanceReport:
    from data_tools.run.plan import Summary

    summary = Summary.from_dict(run_dir.finished() or {})
    log.info("this run is already finished (%d rows); --overwrite starts it anew. Report: %s", summary.rows, run_dir.root / "report.html")
    return EnhanceReport(run_dir.root, summary)


def _judge_all(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, backend: Backend | None) -> EnhanceReport:
    from data_tools.disk.durable import write_atomic
    from data_tools.run.plan import Watch

    from ..progress import stop_on_signals

    if run_dir.condition == "unfinished":
        log.info("continuing the unfinished run in %s", run_dir.root)
    write_atomic(run_dir.root / "config.yaml", to_yaml(config).encode())
    with stop_on_signals() as stop:
        watch = Watch(stop)
        judged = _by_workers(config, shards, run_dir, watch) if wants_engine(config) else _here(config, shards, run_dir, watch, backend)
    seconds = time.monotonic() - judged.started
    if config.shard is not None:
        run_dir.remember("told", judged.told)  # for the report of all slices
    report = EnhanceReport(run_dir.root, judged.summary, watch.fresh_rows, watch.step_seconds, seconds)
    return conclude(config, shards, [run_dir], report, judged.told)


def _here(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, watch: Watch, backend: Backend | None) -> Judged:
    """All rows judged in this process."""
    from data_tools import pipeline

    from ..progress import Progress, shown

    asking = endpoint_options(config, run_dir.requests)
    backend, plan, told = ready(config, run_dir, backend, asking)
    spent = Spent(run_dir, asking.usage)
    refuse_taken_fields(shards, plan)
    told |= about_data(config, shards, plan, backend)
    started = time.monotonic()
    with shown(shards) as show:

        def after_block(progress: Progress) -> None:
            show(progress)
            remember_batch(run_dir, backend)
            spent.remember()

        watch.progress = after_block
        try:
            summary = pipeline.run(shards, plan, run_dir, watch)
        finally:
            spent.remember()
    return Judged(summary, told, started)


def _by_workers(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, watch: Watch) -> Judged:
    """All rows judged by the workers of an engine."""
    from ..progress import shown

    with shown(shards) as show:
        watch.progress = show
        return run_engine(config, shards, run_dir, watch)
