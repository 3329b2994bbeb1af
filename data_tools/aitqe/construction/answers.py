"""What a judge answered while training data is made: usable as it is, or refused with a reason."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import NamedTuple

from ...text import encodable, read_objects
from ..guards import Guards
from ..parser import ASPECTS, SCORE_KEYS, Reply, in_range, parse

_SHOWN = 200
_NAME = re.compile(r"caption|description", re.IGNORECASE)
_PLAIN = Guards(min_ratio=0.0, max_ratio=1e9, language="any", max_repetition=1.0, banned_openings=())  # what even a bad caption must pass


class Refused(NamedTuple):
    """Why an answer cannot be used."""

    reason: str
    detail: str = ""


def scored(text: str, *, partial: bool = False) -> Reply | Refused:
    """The scores in a judge's answer, without a caption it may have offered.

    `partial`: the overall score is enough; otherwise every score and explanation must be there, as they are what the model learns to write.
    """
    reply = parse(text)
    if reply.status in ("unparsable", "no_score", "truncated"):
        return Refused(f"judge_{reply.status}", text[:_SHOWN])
    off = [key for key, score in reply.all_scores().items() if score is not None and not in_range(score)]
    if off or reply.overall is None:
        return Refused("judge_off_scale", f"{', '.join(off) or 'overall'}: {text[:_SHOWN]}")
    lacking = [key for key in ASPECTS if reply.scores.get(key) is None] + [f"why {k}" for k in SCORE_KEYS if k not in reply.explanations]
    if lacking and not partial:
        return Refused("judge_incomplete", f"no {', '.join(lacking)}: {text[:_SHOWN]}")
    return replace(reply, recaption=None)


def new_caption(text: str, raw: str, *, better: bool, max_similarity: float = 0.98) -> str | Refused:
    """The caption in a judge's answer, if it may stand beside `raw`.

    A better one must pass the guards that every rewrite must pass; a worse one must only be text. Both must differ from `raw`.
    """
    said = _caption_in(text)
    if said is None:
        return Refused("contrast_unparsable", text[:_SHOWN])
    failed = (Guards() if better else _PLAIN).refusal(raw, said)
    if failed:
        return Refused(f"contrast_{failed}", said[:_SHOWN])
    if too_like(raw, said, max_similarity):
        return Refused("contrast_too_similar", said[:_SHOWN])
    return said


def too_like(raw: str, said: str, max_similarity: float) -> bool:
    """Whether two captions have the same words in the same order, or share more than so much of them (twice what matches over all)."""
    old, new = (re.findall(r"\w+", text.casefold()) for text in (raw, said))
    return old == new or difflib.SequenceMatcher(None, old, new, autojunk=False).ratio() > max_similarity


def _caption_in(text: str) -> str | None:
    """The first whole value under a key that names a caption, of the first object that has one."""
    for seen in read_objects(text[:20_000]):
        for key, value in seen.fields.items():
            if _NAME.search(key) and isinstance(value, str) and value.strip():
                return encodable(value).strip()
    return None
