"""What an evaluation came to: each cell scored, and a results.json a model under lm-eval's keys."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluate_answers import Cell, Failure, read_failures, read_responses

if TYPE_CHECKING:
    from data_tools.records import Response
    from data_tools.shards import RunDir

    from ..evals.intervals import Interval
    from ..evals.outcome import Outcome
    from .evaluate_build import Suite
    from .evaluate_config import EvaluateConfig


@dataclass
class Scored:
    """A cell with its responses, the samples that have none, and its figures; where there are none, `trouble` says why, and whether it
    only `waits` for a judge. warning: what makes the figures meaningless."""

    cell: Cell
    responses: Mapping[str, Response]
    failures: Sequence[Failure]
    outcome: Outcome | None = None
    trouble: str = ""
    waits: bool = False
    warning: str = ""
    together: Mapping[str, Hashable] = field(default_factory=dict)

    def told(self) -> list[str]:
        """What a reader has to know of the figures."""
        flags = self.outcome.flags if self.outcome else ()
        return [*([self.warning] if self.warning else []), *flags]

    def interval(self, figure: str) -> Interval | None:
        """Of a figure: that of the items' mean, or bounds that the benchmark gives itself."""
        from ..evals.intervals import Interval
        from ..evals.outcome import spread

        found = self.outcome
        if found is None:
            return None
        if f"{figure}_low" in found.figures:
            return Interval(*(found.figures[f"{figure}{end}"] for end in ("", "_low", "_high")))
        return spread(found, self.together) if figure == found.metric else None


def scored(run: RunDir, cell: Cell) -> Scored:
    """Score a cell's responses. A benchmark that cannot score them (it needs a judge, say) has `trouble` in place of figures."""
    from ..evals.outcome import groups, outcome

    found = Scored(cell, read_responses(run.root, cell), read_failures(run, cell), together=groups(cell.suite.samples))
    found.warning = foreign(cell.model, cell.suite)
    try:
        write_rows(run.root, cell, found.responses)
        found.outcome = outcome(cell.suite.benchmark, found.responses)
    except (ValueError, OSError) as error:
        found.waits = lacks_judge(cell.suite)
        found.trouble = "needs --judge or --judge-replies" if found.waits else str(error)
    return found


def lacks_judge(suite: Suite) -> bool:
    """Whether a benchmark that can be judged by a model was given none."""
    can = "judge_replies" in inspect.signature(type(suite.benchmark)).parameters
    return can and not suite.entry.options.get("judge_replies") and getattr(suite.benchmark, "judge", None) is None


def foreign(model: str, suite: Suite) -> str:
    """What a model that knows one world only says of another; "" where it is at home, or at home everywhere."""
    from ..backends.load import domain_of

    domain = domain_of(model)
    return "" if domain is None or domain["name"] == suite.entry.title else str(domain["message"])


def write_rows(root: Path, cell: Cell, responses: Mapping[str, Response]) -> None:
    """The answers to a published benchmark as a response file of its evaluator, for `mmalign score` and for others."""
    from data_tools.io.jsonl import dump
    from data_tools.shards import write_atomic

    from ..evals import Official

    if isinstance(cell.suite.benchmark, Official):
        path = root / cell.folder / "answers" / f"{cell.suite.name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, b"".join(dump(dict(row.fields)) for row in cell.suite.benchmark.answers(responses).rows))


def shown_figures(suite: Suite, found: Outcome) -> list[str]:
    """The figures of the table: what the suite chooses, else the benchmark's main one and the one that has an interval."""
    chosen = suite.entry.shows or dict.fromkeys((suite.benchmark.main, found.metric))
    return [name for name in chosen if name in found.figures]


# results.json


def write_results(root: Path, config: EvaluateConfig, found: Sequence[Scored], describe: Mapping[str, Any]) -> Path:
    """The file of one model."""
    from data_tools.shards import write_atomic

    path = root / found[0].cell.folder / "results.json"
    told = results(config, found, describe)
    write_atomic(path, (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
    return path


def results(config: EvaluateConfig, found: Sequence[Scored], describe: Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's keys; `flags`, `errors` and `not_scored` are ours."""
    from .. import __version__
    from ..evals.outcome import is_lower_better

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
        "not_scored": {name: one.trouble for name, one in done.items() if one.trouble},
        "config": {"model": found[0].cell.model, "model_args": dict(describe), "limit": config.limit},
        "mm_align_version": __version__,
    }


def _alias(suite: Suite) -> str:
    return f"{suite.entry.title}: {suite.name}" if suite.entry.title else suite.name


def _figures(found: Outcome) -> dict[str, Any]:
    """`acc,none` and `acc_stderr,none`: "N/A" where lm-eval has no error either."""
    from ..evals.outcome import standard_error

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
