"""What a model's responses come to: a benchmark's figures, how sure they are, and how two models differ on the same samples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from data_tools.records import Response, Sample

from .base import Benchmark, Judged
from .intervals import Interval, bootstrap, paired_difference
from .official import Official


class Outcome(NamedTuple):
    """figures: all numbers of a benchmark by name, those of parts with a dot. metric: the figure that is the mean of `items` times
    `scale`. rules, flavor: whose; "" for benchmarks of our own. flags: what a reader has to know."""

    figures: Mapping[str, float]
    metric: str
    items: Sequence[Judged]
    scale: float = 1.0
    flavor: str = ""
    rules: str = ""
    flags: Sequence[str] = ()


def outcome(benchmark: Benchmark, responses: Mapping[str, Response]) -> Outcome:
    """Score responses by sample id; a sample without one is unanswered. Raises ValueError where there is no score."""
    if isinstance(benchmark, Official):
        scored = benchmark.report(benchmark.answers(responses))
        whose = (scored.flavor, scored.rules_version, scored.flags)
        return Outcome(benchmark.figures(scored), benchmark.items_metric, scored.items, benchmark.items_scale, *whose)
    return Outcome(benchmark.score(responses), benchmark.main, benchmark.judged(responses))


def is_lower_better(benchmark: Benchmark, figure: str) -> bool:
    """Whether less is better; a part's figure is as the whole's of that name."""
    return figure in benchmark.lower or figure.rpartition(".")[2] in benchmark.lower


def groups(samples: Sequence[Sample]) -> dict[str, Hashable]:
    """Sample id -> what it is drawn together with: questions about one picture hang together."""
    return {sample.id: sample.images[0].path or sample.id if sample.images else sample.id for sample in samples}


def spread(found: Outcome, together: Mapping[str, Hashable], kind: str | None = None) -> Interval | None:
    """The mean of the items (of one kind), times `scale`, with its 95 % bootstrap interval; None where there are none."""
    items = [item for item in found.items if kind is None or item.kind == kind]
    if not items:
        return None
    return bootstrap([item.score * found.scale for item in items], [together.get(item.sample_id, item.sample_id) for item in items])


def difference(ours: Outcome, theirs: Outcome, together: Mapping[str, Hashable]) -> Interval | None:
    """Mean of ours - theirs over the items that both have, with its interval; beyond 0 the models differ. None where there are none."""
    other = {(item.sample_id, item.kind): item.score for item in theirs.items}
    both = [item for item in ours.items if (item.sample_id, item.kind) in other]
    if not both:
        return None
    return paired_difference(
        [item.score * ours.scale for item in both],
        [other[item.sample_id, item.kind] * theirs.scale for item in both],
        [together.get(item.sample_id, item.sample_id) for item in both],
    )


def standard_error(found: Outcome) -> float | None:
    """Of the mean of the items, as lm-eval tells it: the sample's deviation over the root of its size; None below two items."""
    scores = [item.score * found.scale for item in found.items]
    if len(scores) < 2:
        return None
    mean = sum(scores) / len(scores)
    return math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1) / len(scores))
