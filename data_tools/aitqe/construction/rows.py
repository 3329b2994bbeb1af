"""The four kinds of rows that a quality model learns from: every picture once with a good and once with a bad caption.

Kinds and recaption targets: the paper's figure [R: figs/main.png]. A: raw and good, no recaption. B: the bad caption made for A, recaption
is the original. C: raw and bad, recaption is the enhanced caption. D: that enhanced caption, no recaption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ...records import Message, Part, Sample
from ..parser import Reply, render
from ..prompt import AITQE_PROMPT, Prompt

Kind = Literal["A", "B", "C", "D"]
KINDS: tuple[Kind, ...] = ("A", "B", "C", "D")


class Judged(NamedTuple):
    """A caption and the judge's scores of it."""

    caption: str
    reply: Reply


class Row(NamedTuple):
    """One training row before it is written: the caption that is shown and what the model should answer."""

    kind: Kind
    caption: str
    answer: Reply


def rows_of(raw: Judged, contrast: Judged, good: bool) -> tuple[Row, Row]:
    """The two rows of one picture: A and B where its raw caption is `good`, else C and D."""
    if good:
        return Row("A", raw.caption, raw.reply), Row("B", contrast.caption, replace(contrast.reply, recaption=raw.caption))
    return Row("C", raw.caption, replace(raw.reply, recaption=contrast.caption)), Row("D", contrast.caption, contrast.reply)


def training_sample(row: Row, sample: Sample, told: dict[str, Any], prompt: Prompt = AITQE_PROMPT) -> Sample:
    """The row as a conversation: the quality model's own question about the picture, and the released answer format, on which alone the
    loss falls. `told`: what is kept of how it was made, beside the kind."""
    answer = Message("assistant", (Part("text", render(row.answer)),), trains=True)
    meta = {**sample.meta, "aitqe": {"kind": row.kind, "row": sample.id, **told}}
    return Sample(f"{sample.id}:{row.kind}", (prompt.message(row.caption), answer), sample.images[:1], row.caption, None, meta)


def evenly(kinds: Sequence[bool], order: Sequence[int]) -> list[bool]:
    """Which pictures stay so that as many raw captions are good as bad; of the more frequent side those first in `order` stay."""
    room = min(sum(kinds), len(kinds) - sum(kinds))
    left = {True: room, False: room}
    stays = [False] * len(kinds)
    for at in order:
        stays[at] = left[kinds[at]] > 0
        left[kinds[at]] -= 1
    return stays
