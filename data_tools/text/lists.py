"""Reads the lists that models write: dashes, stars, bullets, numbers, with or without a heading."""

from __future__ import annotations

import re

MARKER = re.compile(r"\s*(?:[-*•·‣◦–—+](?=\s)|[-•·‣◦–—](?=\w)|\(?\d{1,3}[.):](?=\s)|\(?[A-Za-z][.)](?=\s))\s*")
_NUMBER = re.compile(r"\s*\**\(?(\d{1,4})[.):]\**\s*")
_FENCE = re.compile(r"\s*(?:```.*|#{1,6}\s.*|\|?\s*:?-{3,}.*)$")
_QUOTED = re.compile(r"^[\"“](.*)[\"”]$")


def read_list(text: str) -> list[str]:
    """The items of a list, one a line, without their markers (`-`, `*`, `•`, `1.`, `1)`, `(1)`, `a.`), bold and quotes.

    Where some line has a marker, a line without one goes on the item before it, and what stands before the first marker is no item.
    Where none has, each line is an item. Headings (`###`, a line that ends with a colon before the first item) and fences are no items.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _FENCE.match(line)]
    marked = any(MARKER.match(line) for line in lines)
    items: list[str] = []
    for line in lines:
        marker = MARKER.match(line)
        if marker:
            items.append(line[marker.end() :])
        elif marked and items:
            items[-1] += f" {line}"
        elif not marked and not (line.endswith(":") and not items):
            items.append(line)
    return [item for item in map(_bare, items) if item]


def read_numbered(text: str) -> dict[int, str]:
    """The items of a numbered list by their numbers; one without goes on the item before it, a number that comes again is passed over."""
    items: dict[int, str] = {}
    number = None
    for line in (line.strip() for line in text.splitlines() if line.strip() and not _FENCE.match(line)):
        found = _NUMBER.match(line)
        if found:
            number = int(found[1])
            again = number in items
            items.setdefault(number, line[found.end() :])
            number = None if again else number
        elif number is not None:
            items[number] += f" {line}"
    return {number: bare for number, item in items.items() if (bare := _bare(item))}


def _bare(item: str) -> str:
    item = item.replace("**", "").strip()
    quoted = _QUOTED.match(item)
    return quoted[1].strip() if quoted and not set(quoted[1]) & set('"“”') else item
