"""Which words of a caption went and which came, for highlighting."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

TOKEN = re.compile(r"\s+|\w+|[^\w\s]")


class Span(NamedTuple):
    """A run of text that both captions share (`changed` False) or only this one has."""

    text: str
    changed: bool


def word_diff(before: str, after: str) -> tuple[list[Span], list[Span]]:
    """The two captions as spans; words compare without case, and the spans of each side join to exactly its text."""
    left, right = TOKEN.findall(before), TOKEN.findall(after)
    matcher = SequenceMatcher(None, [w.lower() for w in left], [w.lower() for w in right], autojunk=False)
    old: list[Span] = []
    new: list[Span] = []
    for tag, i, j, k, m in matcher.get_opcodes():
        _append(old, "".join(left[i:j]), tag != "equal")
        _append(new, "".join(right[k:m]), tag != "equal")
    return _bridged(old), _bridged(new)


def _append(spans: list[Span], text: str, changed: bool) -> None:
    if text:
        spans.append(Span(text, changed))


def _bridged(spans: list[Span]) -> list[Span]:
    """Blanks between two changed words count as changed, so that a rewritten phrase is one mark and not many."""
    out: list[Span] = []
    for i, span in enumerate(spans):
        between = not span.text.strip() and 0 < i < len(spans) - 1 and spans[i - 1].changed and spans[i + 1].changed
        changed = span.changed or between
        if out and out[-1].changed == changed:
            out[-1] = Span(out[-1].text + span.text, changed)
        else:
            out.append(Span(span.text, changed))
    return out
