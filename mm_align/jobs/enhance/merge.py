"""`mmalign merge`: the slices of a divided `enhance-data` run become the run that one process would have made, row for row."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...config import JobConfig, UserError, load, to_yaml
from ..endpoint_costs import Spent, prices_of
from ..endpoint_fields import endpoint_options
from ..run_errors import user_errors
from .config import EnhanceConfig
from .results import EnhanceReport, conclude

if TYPE_CHECKING:
    from data_tools.engines.slices import Division, Merging
    from data_tools.filters import FilterStep
    from data_tools.io import Shard
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Plan, Summary, Watch

    from ...backends.usage import Usage

log = logging.getLogger(__name__)


class MergeConfig(JobConfig):
    """Where the slices are."""

    outs: list[str] = Field(
        min_length=1,
        description="the --out of all slices, one shared or several; the merged run is made in the first",
        json_schema_extra={"positional": True},
    )
    judge: bool = Field(
        False, description="load the run's models for the rows that left by copies or shares of their slice and stay among all rows"
    )


def run(config: MergeConfig) -> EnhanceReport:
    """Merge and print what came of it. Raises UserError (a slice is missing, unfinished, twice, of another run) and Stopped."""
    try:
        with user_errors(Path(config.outs[0])):
            report = merge([Path(out) for out in config.outs], judge=config.judge)
    except OSError as error:
        raise UserError(str(error)) from error
    for line in report.lines():
        print(line)
    return report


def merge(outs: Sequence[Path], *, judge: bool = False) -> EnhanceReport:
    """The merged run's report; a run that is merged already only says so. A merge that was cut short goes on where it was.

    judge: whether models may be asked about rows that no slice asked them about; RunRefused where that is needed and not allowed.
    """
    from data_tools.disk.durable import read_json
    from data_tools.engines.slices import gathered, merged_already
    from data_tools.pipeline import outputs_of
    from data_tools.run.directory import STATE, open_run
    from data_tools.run.plan import Summary

    finished, record = (read_json(outs[0] / STATE / name) for name in ("finished.json", "run.json"))
    left = merged_already(outs, record or {}) if finished is not None else None
    if finished is not None and left is not None:
        _cleared_late(outs, left, record or {})
        log.info("this run is already merged. Report: %s", outs[0] / "report.html")
        return EnhanceReport(outs[0], Summary.from_dict(finished))
    division = gathered(outs)
    first = division.records[0]
    given = {"source": first["given"]["source"], "out": str(outs[0]), **prices_of(division.records)}
    config = load(EnhanceConfig, first["config"], given)
    _warn_of_batches(division)
    outputs = outputs_of(division.shards, config.format)
    with open_run(outs[0], {"config": first["config"], "source": division.source}, outputs) as run_dir:
        for part in ("model", "prompt", "resolved", "scorers"):
            if part in first:
                run_dir.bind(part, first[part])
        report = _merged(config, division, run_dir, judge=judge)
        _clear(outs, division.folders)
    return report


def _cleared_late(outs: Sequence[Path], left: Sequence[Path], record: Mapping[str, Any]) -> None:
    """Remove what a merge that was cut short after its end left of its slices, and say so."""
    from data_tools.run.directory import SLICES, STATE, open_run

    if not any((out / STATE / SLICES).exists() for out in outs):
        return
    with open_run(outs[0], {part: record[part] for part in ("config", "source")}, record["outputs"]):
        _clear(outs, left)
    names = ", ".join(folder.name for folder in left) or "none whole"
    log.info("slices that an earlier merge had taken over and not yet removed are removed now: %s", names)


def _clear(outs: Sequence[Path], merged: Sequence[Path]) -> None:
    """Remove these slices, and the places of slices that are empty then."""
    from data_tools.disk.durable import remove
    from data_tools.engines.slices import discard, slices_in
    from data_tools.run.directory import SLICES, STATE

    discard(merged)
    for out in outs:
        if not any(slices_in(out)):
            remove(out / STATE / SLICES)


def _warn_of_batches(division: Division) -> None:
    """The same rows in other batches, or on another device, may give numbers that differ in their last digits."""
    ways = {str(record["resolved"]) for record in division.records if "resolved" in record}
    if len(ways) > 1:
        log.warning("the slices were judged in %d ways (%s): numbers may differ in their last digits", len(ways), "; ".join(sorted(ways)))


def _merged(config: EnhanceConfig, division: Division, run_dir: RunDir, *, judge: bool) -> EnhanceReport:
    from data_tools.disk.durable import write_atomic
    from data_tools.engines.slices import Merging
    from data_tools.run.plan import Watch

    from ...backends.usage import Usage
    from ..progress import stop_on_signals

    write_atomic(run_dir.root / "config.yaml", to_yaml(config).encode())
    merging, plan = Merging(division, run_dir), _plan(config, run_dir)
    told = {**division.records[0].get("told", {}), "slices": len(division.folders)}
    spent = Spent(run_dir, Usage())
    with stop_on_signals() as stop:
        otherwise = _told_otherwise(merging, plan, judge=judge)
        try:
            summary = _all_shards(config, merging, plan, otherwise, Watch(stop, lambda _: spent.remember()), spent.usage)
        finally:
            spent.remember()
    report = conclude(config, division.shards, [run_dir, *merging.slices], EnhanceReport(run_dir.root, summary), told)
    if config.cascade:
        log.warning(
            "each of %d slices calibrated a cascade of its own: which rows it decided differs from a single run's", len(division.folders)
        )
    return report


def _told_otherwise(merging: Merging, plan: Plan, *, judge: bool) -> dict[int, list[int]]:
    """The shards, by number, whose rows are told something else among all rows; of each the rows about which a model is to be asked.

    Raises RunRefused where there are such rows and `judge` is not set.
    """
    from data_tools.engines.retelling import lacking
    from data_tools.filters import FilterStep
    from data_tools.run.directory import RunRefused

    if plan.scan is None:
        return {}
    assert isinstance(plan.step, FilterStep)
    merging.adopt_scans(plan.scan)
    found: dict[int, list[int]] = {}
    for number, shard in enumerate(merging.division.shards):
        if merging.run_dir.done(shard.name) is None and merging.told_otherwise(number, shard.name, plan.scan):
            found[number] = lacking(shard.name, plan.step, merging.entries(number, shard.name))
    rows = sum(map(len, found.values()))
    if rows and not judge:
        first = next(number for number, lacks in found.items() if lacks)
        name = merging.division.shards[first].name
        why = merging.entries(first, name)[found[first][0]]["reason"]
        raise RunRefused(
            f"{rows} rows left by what their slice knew of its own rows and stay among all, so no model was asked about them. The first: "
            f"row {found[first][0]} of '{name}' ({why}). Merge with --judge where the models can be loaded: they are asked about these"
        )
    return found


def _all_shards(
    config: EnhanceConfig, merging: Merging, plan: Plan, otherwise: Mapping[int, Sequence[int]], watch: Watch, usage: Usage
) -> Summary:
    """Every shard in the order of the source: moved, or rendered again where an id of its rows came before in another slice.

    otherwise: the shards whose rows are told something else among all, which are judged anew as far as that changes them. usage: counts
    what endpoints are asked for that.
    """
    from data_tools.engines.retelling import retell_shard
    from data_tools.run.finalising import finalise_shard
    from data_tools.run.plan import Summary, check_identity

    run_dir, total, across = merging.run_dir, Summary(), 0
    models = cache(lambda: _loaded(config, run_dir, usage))

    def take_over(number: int, shard: Shard, repeats: int) -> None:
        if number not in otherwise and not repeats:
            return merging.adopt(number, shard.name, plan.suffix(shard))
        if number in otherwise:
            retell_shard(shard, plan, run_dir, merging.entries(number, shard.name), otherwise[number], watch, models)
        else:
            merging.adopt_journal(number, shard.name)
        run_dir.mark_done(shard.name, finalise_shard(shard, plan, run_dir, merging.seen.repeated, watch).to_dict())

    for number, shard in enumerate(merging.division.shards):
        if run_dir.done(shard.name) is None:
            repeats = merging.repeats(number, shard.name)
            take_over(number, shard, repeats)
            across += repeats
        merging.pass_over(number, shard.name)
        total = total.plus(Summary.from_dict(run_dir.done(shard.name) or {}))
        watch.check()
    if across:
        log.info("%d rows have an id that came before in another slice: %s", across, _fate(config))
    if otherwise:
        log.info(
            "%d of %d shards hold rows whose copies or shares are others among all slices", len(otherwise), len(merging.division.shards)
        )
    check_identity(total, "the merged run")
    return total


def _loaded(config: EnhanceConfig, run_dir: RunDir, usage: Usage) -> FilterStep:
    """The step of an undivided run, with its models, after making sure that they are those of the slices; `usage` counts what is asked."""
    from data_tools.filters import FilterStep

    from .setup import ready

    asking = dataclasses.replace(endpoint_options(config, run_dir.requests), usage=usage)
    step = ready(config, run_dir, None, asking).plan.step
    assert isinstance(step, FilterStep)
    return step


def _fate(config: EnhanceConfig) -> str:
    return "in quarantine now" if config.on_duplicate == "quarantine" else "reported, and kept (--on-duplicate keep)"


def _plan(config: EnhanceConfig, run_dir: RunDir) -> Plan:
    """The plan of the slices but for their models, which nobody asks any more."""
    from data_tools.filters import SCORERS

    from .scorers import Scorer, asked_stages, names_of
    from .setup import make_plan, models_of

    backend: Any = None
    if "aitqe" in config.stages:
        backend = _Absent(run_dir.record["model"])
        config = config.model_copy(update={"prompt": _prompt(run_dir.record["prompt"])})
    scorers = {stage: Scorer(SCORERS[stage](_unasked, names_of(config, stage)), {}) for stage in asked_stages(config)}
    return make_plan(config, models_of(config, backend, scorers), run_dir.record["resolved"]["batch_size"], run_dir)


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
