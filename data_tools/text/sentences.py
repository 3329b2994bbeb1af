"""Cuts a text into sentences: abbreviations, decimals, quotes, wrapped lines, lists and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .lists import MARKER

_ABBREVIATIONS = re.compile(
    r"mrs?|ms|dr|prof|st|mt|vs|etc|e\.g|i\.e|cf|fig|no|approx|inc|ltd|co|corp|jr|sr|dept|est|gen|col|sgt|capt|hon|rev|ave|blvd|rd|ca",
    re.IGNORECASE,
)
_END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]?[^\Wa-z_])|[。！？]+[”’」』）]*)")
_CLOSED = re.compile(r"[.!?:;…。！？][\"'”’)\]*]*$")
_HEADING = re.compile(r"#{1,6}\s|\*\*[^*]+\*\*:?$")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_LONE = re.compile(r"\(?\d{1,3}[.)]|[-*•·]")  # a marker on a line of its own
_INLINE = re.compile(r"^\(\d{1,3}\)\s+")
_LAST_WORD = re.compile(r"[\w.]+$")
_INITIALS = re.compile(r"(?:[A-Z]\.)*[A-Z]")
_EMPHASIS = re.compile(r"\*\*|__|`|^#{1,6}\s+|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")


def sentences(text: str) -> list[str]:
    """The sentences of `text` in its order, each on one line, without list markers and emphasis.

    A line that is wrapped goes on in the next one; a blank line, a list marker, a heading, and a line that ends like a sentence
    begin anew. Headings and titles count as sentences. Nothing but white space, markers and emphasis is left out.
    """
    return [found for block in _blocks(text) for found in _cut(_EMPHASIS.sub("", block[_start(block) :])) if found]


def _blocks(text: str) -> Iterator[str]:
    """Runs of lines that read on."""
    held: list[str] = []
    for line in map(str.strip, _BREAK.sub("\n", text).splitlines()):
        line = "" if _LONE.fullmatch(line) else line
        begins = not line or not held or MARKER.match(line) or _HEADING.match(line) or _HEADING.match(held[-1]) or _CLOSED.search(held[-1])
        if begins and held:
            yield " ".join(held)
            held = []
        held += [line] if line else []
    if held:
        yield " ".join(held)


def _start(block: str) -> int:
    marker = MARKER.match(block)
    return marker.end() if marker else 0


def _cut(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        if not _abbreviates(block[start : end.start() + 1]):
            yield _INLINE.sub("", block[start : end.end()].strip(), count=1)
            start = end.end()
    yield _INLINE.sub("", block[start:].strip(), count=1)


def _abbreviates(text: str) -> bool:
    """Whether the full stop that `text` ends with belongs to its last word: "Mr.", "e.g.", "J.", "U.S."."""
    word = _LAST_WORD.search(text[:-1])
    return text.endswith(".") and word is not None and bool(_ABBREVIATIONS.fullmatch(word[0]) or _INITIALS.fullmatch(word[0]))
