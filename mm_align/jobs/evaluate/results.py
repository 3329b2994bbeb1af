"""results.json of an evaluation: the figures of one model under lm-eval's keys; table.json: those of all models with their intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answers import TABLE
from .scores import Scored

if TYPE_CHECKING:
    from ...evals.outcome import Outcome
    from .build import Suite
    from .config import EvaluateConfig
    from .table import Line, Value


def write_results(root: Path, config: EvaluateConfig, found: Sequence[Scored], describe: Mapping[str, Any]) -> Path:
    """The file of one model."""
    from data_tools.disk.durable import write_atomic

    path = root / found[0].cell.folder / "results.json"
    told = results(config, found, describe)
    write_atomic(path, (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
    return path


def results(config: EvaluateConfig, found: Sequence[Scored], describe: Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's keys; `flags`, `errors`, `judges` and `not_scored` are ours."""
    from ... import __version__
    from ...evals.outcome import is_lower_better

    done = {one.cell.suite.name: one for one in found}
    rated = {name: one.outcome for name, one in done.items() if one.outcome is not None}
    better = {name: {f: not is_lower_better(done[name].cell.suite.benchmark, f) for f in one.figures} for name, one in rated.items()}
    return {
        "results": {name: {"alias": _alias(done[name].cell.suite), **_figures(one)} for name, one in rated.items()},
        "configs": {name: _config(one) for name, one in done.items()},
        "versions": {name: (one.outcome.rules if one.outcome else "") or f"mm-align {__version__}" for name, one in done.items()},
        "n-samples": {name: {"original": len(one.cell.suite.samples), "effective": len(one.responses)} for name, one in done.items()},
        "higher_is_better": better,
        "flags": {name: told for name, one in done.items() if (told := one.told())},
        "errors": {name: dict(Counter(f.reason for f in one.failures)) for name, one in done.items() if one.failures},
        "judges": {name: dict(one.judging) for name, one in done.items() if one.judging},
        "not_scored": {name: one.trouble for name, one in done.items() if one.trouble},
        "config": {"model": found[0].cell.model, "model_args": dict(describe), "limit": config.limit},
        "mm_align_version": __version__,
    }


def _alias(suite: Suite) -> str:
    return f"{suite.entry.title}: {suite.name}" if suite.entry.title else suite.name


def _figures(found: Outcome) -> dict[str, Any]:
    """`acc,none` and `acc_stderr,none`: "N/A" where lm-eval has no error either."""
    from ...evals.outcome import standard_error

    told: dict[str, Any] = {}
    for name, value in found.figures.items():
        error = standard_error(found) if name == found.metric else None
        told |= {f"{name},none": value, f"{name}_stderr,none": "N/A" if error is None else error}
    return told


def _config(one: Scored) -> dict[str, Any]:
    suite = one.cell.suite
    whose = {"flavor": one.outcome.flavor} if one.outcome and one.outcome.flavor else {}
    return {"task": suite.name, "generation_kwargs": suite.sampling.to_dict(), **suite.bound(), **whose} | {
        "options": dict(suite.entry.options)
    }


def write_table(root: Path, models: Sequence[str], table: Sequence[Line]) -> None:
    """The report's table: benchmark -> figure -> model -> value, `low` and `high` of its interval, `difference` to the first model."""
    from data_tools.disk.durable import to_json, write_atomic

    figures: dict[str, dict[str, Any]] = {}
    for line in table:
        if line.figure:
            cells = dict(zip(models, map(_value, line.values), strict=True))
            figures.setdefault(line.bench, {})[line.figure] = {"lower": line.lower, "values": cells}
    titles = {line.bench: line.title for line in table}
    write_atomic(root / TABLE, to_json({"models": list(models), "titles": titles, "figures": figures}))


def _value(one: Value) -> dict[str, Any]:
    told: dict[str, Any] = {"value": one.value}
    if one.interval is not None:
        told |= {"low": one.interval.low, "high": one.interval.high}
    if one.difference is not None:
        told["difference"] = {"value": one.difference.mean, "low": one.difference.low, "high": one.difference.high}
    return told
