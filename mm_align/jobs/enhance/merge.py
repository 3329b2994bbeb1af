"""`mmalign merge`: the slices of a divided `enhance-data` run become the run that one process would have made, row for row."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...config import JobConfig, Stopped, UserError, load, to_yaml
from .enhance import EnhanceConfig
from .results import EnhanceReport, warn_of_nothing, write_results

if TYPE_CHECKING:
    from data_tools.engines.slices import Division, Merging
    from data_tools.plan import Plan, Summary, Watch
    from data_tools.shards import RunDir

log = logging.getLogger(__name__)


class MergeConfig(JobConfig):
    """Where the slices are."""

    outs: list[str] = Field(
        min_length=1,
        description="the --out of all slices, one shared or several; the merged run is made in the first",
        json_schema_extra={"positional": True},
    )


def run(config: MergeConfig) -> EnhanceReport:
    """Merge and print what came of it. Raises UserError (a slice is missing, unfinished, twice, of another run) and Stopped."""
    from data_tools.pipeline import stopping_on_full_disk
    from data_tools.shards import RunRefused, RunStopped

    try:
        with stopping_on_full_disk(Path(config.outs[0])):
            report = merge([Path(out) for out in config.outs])
    except (RunRefused, OSError) as error:
        raise UserError(str(error)) from error
    except RunStopped as error:
        raise Stopped(str(error)) from error
    for line in report.lines():
        print(line)
    return report


def merge(outs: Sequence[Path]) -> EnhanceReport:
    """The merged run's report; a run that is merged already only says so. A merge that was cut short goes on where it was."""
    from data_tools.durable import remove
    from data_tools.engines.slices import gathered, slices_in
    from data_tools.io import extension
    from data_tools.plan import Summary
    from data_tools.shards import SLICES, STATE, open_run, read_json

    finished = read_json(outs[0] / STATE / "finished.json")
    if finished is not None and not any(any(slices_in(out)) for out in outs):
        log.info("this run is already merged. Report: %s", outs[0] / "report.html")
        return EnhanceReport(outs[0], Summary.from_dict(finished))
    division = gathered(outs)
    first = division.records[0]
    config = load(EnhanceConfig, first["config"], {"source": first["given"]["source"], "out": str(outs[0])})
    _warn_of_batches(division)
    files = [(shard.name, extension(config.format or shard.format)) for shard in division.shards]
    outputs = [path for name, suffix in files for path in (f"{name}{suffix}", f"quarantine/{name}.jsonl")]
    with open_run(outs[0], {"config": first["config"], "source": division.source}, outputs) as run_dir:
        for part in ("model", "prompt", "resolved", "scorers"):
            if part in first:
                run_dir.bind(part, first[part])
        report = _merged(config, division, run_dir)
        for folder in division.folders:
            remove(folder)
        for out in outs:
            if not any(slices_in(out)):
                remove(out / STATE / SLICES)
    return report


def _warn_of_batches(division: Division) -> None:
    """The same rows in other batches, or on another device, may give numbers that differ in their last digits."""
    ways = {str(record["resolved"]) for record in division.records if "resolved" in record}
    if len(ways) > 1:
        log.warning("the slices were judged in %d ways (%s): numbers may differ in their last digits", len(ways), "; ".join(sorted(ways)))


def _merged(config: EnhanceConfig, division: Division, run_dir: RunDir) -> EnhanceReport:
    from data_tools.engines.slices import Merging
    from data_tools.plan import Watch
    from data_tools.shards import write_atomic

    from ..progress import stop_on_signals

    write_atomic(run_dir.root / "config.yaml", to_yaml(config).encode())
    with stop_on_signals() as stop:
        summary = _all_shards(config, Merging(division, run_dir), Watch(stop))
    report = EnhanceReport(run_dir.root, summary)
    told = {**division.records[0].get("told", {}), "slices": len(division.folders)}
    write_results(config, division.shards, run_dir, report, told)
    warn_of_nothing(run_dir, division.shards, summary)
    return report


def _all_shards(config: EnhanceConfig, merging: Merging, watch: Watch) -> Summary:
    """Every shard in the order of the source: moved, or rendered again where an id of its rows came before in another slice."""
    from data_tools.finalising import finalise_shard
    from data_tools.plan import Summary, check_identity

    run_dir, total, across = merging.run_dir, Summary(), 0
    plan = _plan(config, run_dir)
    for number, shard in enumerate(merging.division.shards):
        if run_dir.done(shard.name) is None:
            repeats = merging.repeats(number, shard.name)
            if repeats:
                merging.adopt_journal(number, shard.name)
                run_dir.mark_done(shard.name, finalise_shard(shard, plan, run_dir, merging.seen.repeated, watch).to_dict())
            else:
                merging.adopt(number, shard.name, plan.suffix(shard))
            across += repeats
        merging.pass_over(number, shard.name)
        total = total.plus(Summary.from_dict(run_dir.done(shard.name) or {}))
        watch.check()
    if across:
        log.info("%d rows have an id that came before in another slice: %s", across, _fate(config))
    check_identity(total, "the merged run")
    return total


def _fate(config: EnhanceConfig) -> str:
    return "in quarantine now" if config.on_duplicate == "quarantine" else "reported, and kept (--on-duplicate keep)"


def _plan(config: EnhanceConfig, run_dir: RunDir) -> Plan:
    """The plan of the slices but for their models, which nobody asks any more."""
    from data_tools.filters import SCORERS

    from .scorers import Scorer, asked_stages, names_of
    from .setup import make_plan, make_step

    scorers = {stage: Scorer(SCORERS[stage](_unasked, names_of(config, stage)), {}) for stage in asked_stages(config)}
    rows = run_dir.record["resolved"]["batch_size"]
    if "aitqe" not in config.stages:
        return make_plan(config, None, None, rows, scorers, run_dir)
    backend: Any = _Absent(run_dir.record["model"])
    known = config.model_copy(update={"prompt": _prompt(run_dir.record["prompt"])})
    return make_plan(known, make_step(known, backend), backend, rows, scorers, run_dir)


def _prompt(sha: str) -> str:
    from data_tools.aitqe import AITQE_PROMPT

    return "aitqe" if sha == AITQE_PROMPT.sha else "general"


class _Absent:
    """A model that is only told of."""

    faces = frozenset({"generate", "likelihood"})

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.about = dict(about)

    def describe(self) -> dict[str, Any]:
        return self.about

    def generate(self, *_: Any, **__: Any) -> Any:
        return _unasked()

    likelihood = generate


def _unasked(*_: Any, **__: Any) -> Any:
    raise RuntimeError("merging asks no model: every row was judged by its slice")
