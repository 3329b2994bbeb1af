"""Scores of an evaluation: each model's responses to each benchmark by the benchmark's rules, judged by a model where it needs one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answers import Answering, Cell, Failure, read_failures, read_responses

if TYPE_CHECKING:
    from data_tools.records import Response

    from ...evals import Benchmark
    from ...evals.intervals import Interval
    from ...evals.outcome import Outcome
    from .build import Suite
    from .judge import JudgeModel


@dataclass
class Scored:
    """A cell with its responses, the samples that have none, and its figures; where there are none, `trouble` says why, and whether it
    only `waits` for a judge. warning: what makes the figures meaningless. judging: who judged, and how often he was asked."""

    cell: Cell
    responses: Mapping[str, Response]
    failures: Sequence[Failure]
    outcome: Outcome | None = None
    trouble: str = ""
    waits: bool = False
    warning: str = ""
    judging: Mapping[str, Any] = field(default_factory=dict)
    together: Mapping[str, Hashable] = field(default_factory=dict)

    def told(self) -> list[str]:
        """What a reader has to know of the figures."""
        flags = self.outcome.flags if self.outcome else ()
        return [*([self.warning] if self.warning else []), *flags]

    def interval(self, figure: str) -> Interval | None:
        """Of a figure: that of the items' mean, or bounds that the benchmark gives itself."""
        from ...evals.intervals import Interval
        from ...evals.outcome import spread

        found = self.outcome
        if found is None:
            return None
        if f"{figure}_low" in found.figures:
            return Interval(*(found.figures[f"{figure}{end}"] for end in ("", "_low", "_high")))
        return spread(found, self.together) if figure == found.metric else None


def scored(run: Answering, cell: Cell, judge: JudgeModel | None = None) -> Scored:
    """Score a cell's responses. A benchmark that cannot score them (it needs a judge, say) has `trouble` in place of figures."""
    from ...evals.outcome import groups, outcome

    found = Scored(cell, read_responses(run.root, cell), read_failures(run.run_dir, cell), together=groups(cell.suite.samples))
    found.warning = foreign(cell.model, cell.suite)
    benchmark = own_copy(cell.suite.benchmark)
    if judge is not None and lacks_judge(cell.suite):
        benchmark.judge = judge.of(cell)  # type: ignore[attr-defined]
    try:
        write_rows(run.root, cell, benchmark, found.responses)
        found.outcome = outcome(benchmark, found.responses)
    except (ValueError, OSError) as error:
        found.waits = lacks_judge(cell.suite) and judge is None
        found.trouble = "needs --judge or --judge-replies" if found.waits else str(error)
    found.judging = dict(getattr(benchmark, "judging", {}))
    return found


def own_copy(benchmark: Benchmark) -> Benchmark:
    """A benchmark as it was built: what it notes while it scores one model is not said of the next."""
    own = copy.copy(benchmark)
    if hasattr(own, "flags"):
        own.flags = list(own.flags)
    return own


def lacks_judge(suite: Suite) -> bool:
    """Whether a benchmark that can be judged by a model was given no replies of one."""
    return "judge_replies" in inspect.signature(type(suite.benchmark)).parameters and not suite.entry.options.get("judge_replies")


def foreign(model: str, suite: Suite) -> str:
    """What a model that knows one world only says of another; "" where it is at home, or at home everywhere."""
    from ...backends.load import domain_of

    domain = domain_of(model)
    return "" if domain is None or domain["name"] == suite.entry.title else str(domain["message"])


def write_rows(root: Path, cell: Cell, benchmark: Benchmark, responses: Mapping[str, Response]) -> None:
    """The answers to a published benchmark as a response file of its evaluator, for `mmalign score` and for others."""
    from data_tools.disk.durable import write_atomic
    from data_tools.io.jsonl import dump

    from ...evals import Official

    if isinstance(benchmark, Official):
        path = root / cell.folder / "answers" / f"{cell.suite.name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, b"".join(dump(dict(row.fields)) for row in benchmark.answers(responses).rows))


def shown_figures(suite: Suite, found: Outcome) -> list[str]:
    """The figures of the table: what the suite chooses, else the benchmark's main one and the one that has an interval."""
    chosen = suite.entry.shows or dict.fromkeys((suite.benchmark.main, found.metric))
    return [name for name in chosen if name in found.figures]
