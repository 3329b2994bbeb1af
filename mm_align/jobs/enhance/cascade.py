"""The adaptive cascade of `mmalign enhance-data`: what it needs, how it is put before the quality model, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_tools.filters import FilterStep
    from data_tools.io import Shard
    from data_tools.run.directory import RunDir

    from .config import EnhanceConfig

OPTIONS = ("agreement", "calibration", "audit")
DECIDING = ("model", "threshold")  # policies under which a caption can be poor or not


def check_cascade(config: EnhanceConfig, signals: bool) -> None:
    """ValueError for a cascade that has nothing to decide, or options without it. signals: whether a stage before the model tells any."""
    fields = type(config).model_fields
    idle = [name for name in OPTIONS if getattr(config, name) != fields[name].default]
    if idle and not config.cascade:
        raise ValueError(f"--{idle[0]} has no effect without --cascade")
    for flag, given in (("--poor drop", config.poor == "drop"), ("--cascade", config.cascade)):
        if given and "aitqe" not in config.stages:
            raise ValueError(f"{flag} is about what the quality model says: add aitqe to --stages")
        if given and config.policy not in DECIDING:
            raise ValueError(f"{flag} has no effect with policy {config.policy!r}, by which no caption is poor: {' or '.join(DECIDING)}")
    if config.poor == "drop" and config.max_rewrite_fraction is not None:
        raise ValueError("--max-rewrite-fraction has no effect with --poor drop, by which nothing is rewritten")
    if config.cascade and not signals:
        raise ValueError("--cascade decides by cheap signals: add signals to --stages, as in --stages signals,aitqe")


def put_before(step: FilterStep, config: EnhanceConfig, run_dir: RunDir) -> dict[str, Any]:
    """The cascade on the step, and its calibration for the plan. Raises ValueError for a sample that can show no such agreement."""
    import dataclasses

    from data_tools.filters.cascade import Cascade

    before = dataclasses.replace(step)
    step.cascade = Cascade(run_dir, config.audit, config.seed)
    return {"calibration": calibration(config, before)}


def calibration(config: EnhanceConfig, step: FilterStep) -> Any:
    """How the cascade is calibrated. Raises ValueError for a sample that can show no such agreement."""
    from data_tools.filters.calibrating import Calibration

    return Calibration(step, config.calibration, config.agreement, config.poor == "drop", config.seed)


def told(shards: Sequence[Shard], run_dir: RunDir) -> dict[str, Any]:
    """For the report: what was calibrated and what the cascade came to, counted over the journals."""
    from data_tools.disk.durable import read_json
    from data_tools.disk.journal import read_entries
    from data_tools.filters.cascade import tally

    journals = (read_entries(path) for shard in shards if (path := run_dir.journal(shard.name)).is_file())
    return {**tally(journals), "calibrated": (read_json(run_dir.calibrated) or {}).get("told")}


def line(told: dict[str, Any]) -> str:
    """What the cascade came to, for people."""
    spared = f"{told['kept']} kept" + (f", {told['dropped']} dropped" if told["dropped"] else "")
    decided = told["kept"] + told["dropped"]
    said = f"cascade: {decided} of {told['rows']} rows decided without the model ({spared}), {told['calls']} judged by it"
    if not told["audited"]:
        return f"{said}; none of the decided rows were drawn for the audit"
    low, high = told["interval"]
    measured = f"{told['agrees']} of {told['audited']} agree ({told['agreement']:.3f}, 95 % interval {low:.3f} to {high:.3f})"
    return f"{said}; audit: of the rows that it would have decided, {measured}"
