"""Failures as the report of an evaluation shows them: picture, question and what each model said; and what was not answered."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from .scores import Scored
from .videos import with_frames

if TYPE_CHECKING:
    from data_tools.records import Image, Sample

    from ...evals.base import Judged
    from .build import Suite

TRUTHS = ("label", "answer", "answers", "gt_answer", "ground_truth", "truth", "objects")  # fields of a sample that say what is right
EXAMPLES = 3  # of each reason for no answer


class Said(NamedTuple):
    """What a model answered to a sample; right: None where there is no score."""

    model: str
    text: str | None
    right: bool | None
    reason: str = ""


class Card(NamedTuple):
    """A failure: what was shown and asked, what is right where the data says so, what each model said."""

    id: str
    kind: str
    picture: Any
    question: str
    truth: str
    said: Sequence[Said]


def failing(one: Scored, *, lower: bool) -> dict[str, Judged]:
    """The items that are not fully right, by sample."""
    if one.outcome is None:
        return {}
    return {item.sample_id: item for item in one.outcome.items if (item.score > 0 if lower else item.score < 1)}


def chosen(suite: Suite, bad: Mapping[str, Mapping[str, Judged]], shown: int) -> list[Sample]:
    """A few samples that some model fails, all models and kinds in turn, the same at every start: those of the smallest hashes."""
    samples = {sample.id: sample for sample in suite.samples}
    piles: dict[tuple[str, str], list[str]] = defaultdict(list)
    for model, items in bad.items():
        for name in sorted(items.keys() & samples.keys(), key=lambda name: hashlib.sha256(name.encode()).digest()):
            piles[items[name].kind, model].append(name)
    turns = [name for row in zip_longest(*piles.values()) for name in row if name is not None]
    return [samples[name] for name in list(dict.fromkeys(turns))[:shown]]


def card(sample: Sample, cells: Sequence[Scored], bad: Mapping[str, Mapping[str, Judged]]) -> Card:
    from data_tools.report.gallery import cut, thumbnail

    from ...rlaif.files import prompt_text

    said, kind = [], ""
    for one in cells:
        item, response = bad[one.cell.model].get(sample.id), one.responses.get(sample.id)
        kind = item.kind if item else kind
        reason = next((f"{f.reason}: {f.detail}" for f in one.failures if f.sample_id == sample.id), "")
        said.append(Said(one.cell.model, cut(response.text) if response else None, None if one.outcome is None else item is None, reason))
    return Card(
        sample.id,
        kind,
        thumbnail(image) if (image := first_picture(sample)) else None,
        cut(prompt_text(sample), 300) or "",
        truth(sample),
        said,
    )


def first_picture(sample: Sample) -> Image | None:
    """Of a video its first frame."""
    from data_tools.io import BadImage

    try:
        return next(iter(with_frames(sample, 1).images), None)
    except BadImage:
        return None


def truth(sample: Sample) -> str:
    """What the data says is right, in short."""
    from data_tools.report.gallery import cut

    value = next((sample.meta[name] for name in TRUTHS if sample.meta.get(name) not in (None, "", [])), "")
    return cut(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value), 300) or ""


def unanswered(one: Scored) -> Iterator[tuple[str, int, list[str]]]:
    """Reasons for no answer: how many, and examples."""
    for reason, count in Counter(failure.reason for failure in one.failures).items():
        examples = [f"{f.sample_id}: {f.detail}" for f in one.failures if f.reason == reason]
        yield reason, count, examples[:EXAMPLES]
