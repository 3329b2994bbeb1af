"""The same question for real models: facts about pictured entities, by what the encoder knows, each model against the first."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.records import Response
from mm_align.backends import load_backend
from mm_align.evals.intervals import Interval, bootstrap, paired_difference
from mm_align.evals.qa import QaBenchmark

HEADER = ("| model | questions | rows | right | against the first, points |", "|---|---|---|---|---|")


def compare(models: Sequence[str], data: str, *, kind: str, group: str | None, device: str = "auto") -> list[str]:
    """Lines of a table. data: rows with a question and its answer (see `QaBenchmark`); kind: the field that says known or unknown."""
    suite = QaBenchmark(data, kind=kind, group=group)
    kinds = ["", *sorted({question.kind for question in suite.questions} - {""})]
    scores = [_scores(model, suite, device) for model in models]
    return [*HEADER, *(_line(suite, models, scores, m, of) for m in range(len(models)) for of in kinds)]


def _scores(model: str, suite: QaBenchmark, device: str) -> list[float]:
    answered: dict[str, Response] = {}
    for response in load_backend(model, device=device).generate(suite.samples(), suite.sampling):
        answered.setdefault(response.sample_id, response)
    return [row.score for row in suite.judged(answered)]


def _line(suite: QaBenchmark, models: Sequence[str], scores: Sequence[Sequence[float]], m: int, kind: str) -> str:
    rows = [k for k, question in enumerate(suite.questions) if kind in ("", question.kind)]
    groups = [suite.questions[k].group for k in rows] if suite.group else None
    own, first = ([scores[n][k] for k in rows] for n in (m, 0))
    against = _points(paired_difference(own, first, groups)) if m else ""
    return f"| {models[m]} | {kind or 'all'} | {len(rows)} | {_percent(bootstrap(own, groups))} | {against} |"


def _percent(found: Interval) -> str:
    return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
