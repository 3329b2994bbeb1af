"""Reading captions of this world back: which objects, signs and charts a text claims, and how many of them are true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .captions import NUMBERS, Mention
from .spec import COLORS, SHAPES, SIZES
from .world import Item, Scene

_OBJECT = re.compile(
    rf"(?:\b(?P<count>an?|{'|'.join(NUMBERS)}) )?(?:(?P<size>{'|'.join(SIZES)}) )?(?:(?P<texture>striped|dotted) )?"
    rf"\b(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})(?:es|s)?\b",
    re.IGNORECASE,
)
_DIVIDER = re.compile(r"[,;:.]| and | to the (?:left|right) of | above | below ")
_PLACE = re.compile(r"\b(?:at|in) the (top left|top right|bottom left|bottom right|center|middle)\b", re.IGNORECASE)


class Agreement(NamedTuple):
    """Objects a caption claims, of them the right ones (every stated attribute true), objects there are, invented ones."""

    claimed: int
    right: int
    truth: int
    invented: int


class Located(NamedTuple):
    """A mention and where it stands: [start, color_end, end) are character offsets of its phrase."""

    mention: Mention
    start: int
    color_end: int
    end: int


def mentions(text: str) -> list[Mention]:
    """The objects a text mentions, with the attributes and the place it states."""
    return [found.mention for found in located(text)]


def located(text: str) -> list[Located]:
    """The same with character offsets."""
    found, start = [], 0
    for divider in [*_DIVIDER.finditer(text), None]:
        end = divider.start() if divider else len(text)
        place = _PLACE.search(text, start, end)
        where = place[1].lower().replace("middle", "center") if place else ""
        found += [Located(_mention(m, where), m.start(), m.end("color"), m.end()) for m in _OBJECT.finditer(text, start, end)]
        start = divider.end() if divider else end
    return found


def _mention(m: re.Match[str], place: str) -> Mention:
    count = (m["count"] or "a").lower()
    number = NUMBERS.index(count) if count in NUMBERS else 1
    return Mention(m["shape"].lower(), m["color"].lower(), (m["size"] or "").lower(), (m["texture"] or "").lower(), place, number)


def agreement(text: str, scene: Scene) -> Agreement:
    """How a caption's objects agree with the scene; each object of the scene can be claimed once."""
    claims = [m for m in mentions(text) for _ in range(m.count)]
    right = _matched(claims, scene.items, ("shape", "color", "size", "texture", "place"))
    known = _matched(claims, scene.items, ("shape", "color"))
    return Agreement(len(claims), right, len(scene.items), len(claims) - known)


def f1(agreements: Iterable[Agreement]) -> float:
    """Micro-averaged F1 of objects with all their stated attributes."""
    totals = [sum(column) for column in zip(*agreements, strict=True)]
    claimed, right, truth = totals[:3] if totals else (0, 0, 0)
    return 2 * right / (claimed + truth) if claimed + truth else 0.0


def _matched(claims: Sequence[Mention], items: Sequence[Item], attributes: Sequence[str]) -> int:
    free, matched = list(items), 0
    for claim in sorted(claims, key=lambda m: not m.place):  # the most specific claims choose first
        hit = next((i for i in free if all(getattr(claim, a) in ("", getattr(i, a)) for a in attributes)), None)
        if hit is not None:
            free.remove(hit)
            matched += 1
    return matched
