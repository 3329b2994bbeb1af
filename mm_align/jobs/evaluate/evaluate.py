"""`mmalign eval`: models on benchmarks, responses first and scores from them, in one table.

Its parts: `config`, `suites` (which benchmarks), `build` and `pictures` (made ready),
`answers` (the folder, and asking the models), `scores` and `judge`, `results` (results.json, table.json),
`table`, `report` and `failures` (report.html).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Stopped, UserError
from ..endpoint_costs import tell_total
from .config import EvaluateConfig

if TYPE_CHECKING:
    from .answers import Answering, Cell
    from .build import Suite

__all__ = ["EvaluateConfig", "EvaluateReport", "run"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateReport:
    """The run's folder, and each model's results.json. Exit code 1: a benchmark could not score what was answered."""

    out: Path
    results: Mapping[str, Path] = field(default_factory=dict)
    exit_code: int = 0


def run(config: EvaluateConfig) -> EvaluateReport:
    """Ask, score, write, print the table. Raises UserError and `Stopped`."""
    from .suites import listing

    if "list" in config.bench:
        print(listing())
        return EvaluateReport(Path(config.out))
    check(config)
    return evaluated(config)


def check(config: EvaluateConfig) -> None:
    """UserError for what can be told before a folder is made."""
    from ...backends.load import check_device, find_name

    if not config.model:
        raise UserError("name a model: mmalign eval MODEL --bench pope")
    if not config.bench:
        raise UserError("name benchmarks: --bench pope,chair; `--bench list` shows them, `--bench scenes` needs no data")
    if repeated := [name for name in config.model if config.model.count(name) > 1]:
        raise UserError(f"the model {repeated[0]} is named twice")
    check_device(config.device, config.dtype)
    for name in [*config.model, *([config.judge] if config.judge else [])]:
        find_name(name)


def evaluated(config: EvaluateConfig) -> EvaluateReport:
    """All cells answered and scored."""
    from .answers import Cell, answering, answers_step, bind, folders
    from .build import build
    from .scores import foreign
    from .suites import entries

    with answering(config) as run:
        suites = [build(config, entry, run.root) for entry in entries(config, run.root)]
        refuse_frames(config, suites)
        bind(run.run_dir, config, suites)
        cells = [Cell(model, folder, suite) for model, folder in folders(config.model).items() for suite in suites]
        for warning in filter(None, dict.fromkeys(foreign(cell.model, cell.suite) for cell in cells)):
            log.warning("WARNING: %s", warning)
        for cell in cells:
            run.do(answers_step(run, cell))
        if not run.models.used:
            print(f"answered already: {config.out}; scored anew, no model was asked")
        return written(config, run, cells)


def refuse_frames(config: EvaluateConfig, suites: Sequence[Suite]) -> None:
    """UserError for a wish about videos where no benchmark has any."""
    if config.frames != EvaluateConfig.model_fields["frames"].default and not any(suite.frames for suite in suites):
        none = f"there is none in {', '.join(suite.name for suite in suites)}"
        raise UserError(f"--frames {config.frames} is about videos, and {none}: leave it out, or name a benchmark of videos")


def written(config: EvaluateConfig, run: Answering, cells: Sequence[Cell]) -> EvaluateReport:
    """Score all responses, write what came out and print it."""
    from data_tools.calls import CallFailed

    from .judge import JudgeModel
    from .report import write_page
    from .results import write_results, write_table
    from .scores import scored
    from .table import as_text, lines, notes

    judge = JudgeModel(run, config.judge) if config.judge else None
    try:
        with run.counted("judge"):
            found = [scored(run, cell, judge) for cell in cells]
    except CallFailed as error:
        raise Stopped(f"the judge does not answer ({error}); what it said is kept: run the same command to continue") from error
    by_model = {model: [one for one in found if one.cell.model == model] for model in config.model}
    by_bench = list(zip(*by_model.values(), strict=True))
    described = run.run_dir.record.get("described", {})
    paths = [write_results(run.root, config, ones, described.get(model, {})) for model, ones in by_model.items()]
    table = list(lines(by_bench))
    write_page(run.root, config, table, by_bench)
    write_table(run.root, config.model, table)
    print("\n".join([as_text(config.model, table), *notes(by_bench)]))
    print(f"results: {', '.join(map(str, paths))}; report: {run.root / 'report.html'}")
    if run.models.used:
        tell_total(run.spent())
    failed = any(one.trouble and not one.waits for one in found)
    return EvaluateReport(run.root, dict(zip(config.model, paths, strict=True)), int(failed))
