"""Scenes and how they are drawn at random: objects, signs and charts at five places, with habits the held-out split breaks."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .spec import COLORS, PLACES, SHAPES, SIZES, SPEC, weighted

HABITS = {tuple(trigger): tuple(companion) for trigger, companion in SPEC["habits"]}


@dataclass(frozen=True, slots=True)
class Item:
    """One object; (x, y) is its centre in a 64-pixel picture."""

    shape: str
    color: str
    size: str
    texture: str
    place: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Sign:
    """A board with one word on it."""

    word: str
    place: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart: colours and heights (1-9) of its bars from left to right; one bar is the tallest."""

    bars: tuple[tuple[str, int], ...]
    place: str

    @property
    def tallest(self) -> str:
        return max(self.bars, key=lambda bar: bar[1])[0]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything there is to know about one picture."""

    size: int
    background: str
    items: tuple[Item, ...]
    signs: tuple[Sign, ...] = ()
    charts: tuple[Chart, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"relations": relations(self)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Scene:
        return cls(
            d["size"], d["background"], tuple(Item(**i) for i in d["items"]), tuple(Sign(**s) for s in d["signs"]),
            tuple(Chart(tuple((c, h) for c, h in chart["bars"]), chart["place"]) for chart in d["charts"]),
        )  # fmt: skip

    def content(self) -> str:
        """The scene's meaning without pixels' jitter, size and background: what two splits never share."""
        items = sorted((i.place, i.color, i.shape, i.texture, i.size) for i in self.items)
        return json.dumps([items, [asdict(s) for s in self.signs], [asdict(c) for c in self.charts]], sort_keys=True)

    def split(self) -> str:
        """The split this content belongs to, by its hash."""
        bucket = int(hashlib.sha256(self.content().encode()).hexdigest()[:8], 16) % 100
        return next(str(name) for name, (low, high) in SPEC["splits"].items() if low <= bucket < high)


def relation(a: Item, b: Item) -> str:
    """How `a` lies to `b`: left of, right of, above or below, along the axis on which they are further apart."""
    dx, dy = (PLACE_XY[a.place][k] - PLACE_XY[b.place][k] for k in (0, 1))
    if abs(dx) >= abs(dy):
        return "to the left of" if dx < 0 else "to the right of"
    return "above" if dy < 0 else "below"


PLACE_XY = {place: tuple(xy) for place, xy in SPEC["places"].items()}
OPPOSITE = {"to the left of": "to the right of", "to the right of": "to the left of", "above": "below", "below": "above"}


def relations(scene: Scene) -> list[list[Any]]:
    """All [i, relation, j] with i < j, by item index."""
    items = scene.items
    return [[i, relation(items[i], items[j]), j] for i in range(len(items)) for j in range(i + 1, len(items))]


def sample_scene(rng: random.Random, split: str) -> Scene:
    """A random scene of `split` (train, validation or heldout); scenes of other splits are drawn again."""
    if split not in SPEC["splits"]:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPEC['splits'])}")
    while True:
        scene = _draw(rng, habits=split != "heldout")
        if scene.split() == split:
            return scene


def _draw(rng: random.Random, habits: bool) -> Scene:
    count = int(weighted(rng, SPEC["objects"]))
    kinds = _kinds(rng, count, habits)
    corners = [p for p in PLACES if p != "center"]
    free = list(PLACES)
    signs, charts = [], []
    if count < 5 and rng.random() < SPEC["sign_share"]:
        place = _take(rng, corners, free)
        signs.append(Sign(rng.choice(SPEC["sign_words"]), place))
    if count + len(signs) < 5 and rng.random() < SPEC["chart_share"]:
        place = _take(rng, corners, free)
        charts.append(_chart(rng, place))
    places = rng.sample(free, count)
    items = sorted((_item(rng, kind, place) for kind, place in zip(kinds, places, strict=True)), key=lambda i: PLACES.index(i.place))
    background = rng.choice(list(SPEC["backgrounds"]))
    return Scene(int(weighted(rng, SPEC["sizes_px"])), background, tuple(items), tuple(signs), tuple(charts))


def _kinds(rng: random.Random, count: int, habits: bool) -> list[tuple[str, str]]:
    """(colour, shape) of each object, with twins, and with companions of habit (or, held out, never with them)."""
    kinds: list[tuple[str, str]] = []
    for _ in range(count):
        companion = next((HABITS[k] for k in kinds if k in HABITS and HABITS[k] not in kinds), None)
        if habits and companion and rng.random() < SPEC["habit_share"]:
            kinds.append(companion)
        elif kinds and rng.random() < SPEC["twin_share"]:
            kinds.append(rng.choice(kinds))
        else:
            kinds.append((rng.choice(COLORS), rng.choice(SHAPES)))
    if not habits and any(HABITS.get(k) in kinds for k in kinds):
        return _kinds(rng, count, habits)
    return kinds


def _take(rng: random.Random, corners: list[str], free: list[str]) -> str:
    place = rng.choice([c for c in corners if c in free])
    free.remove(place)
    return place


def _item(rng: random.Random, kind: tuple[str, str], place: str) -> Item:
    jitter = SPEC["jitter_px"]["center" if place == "center" else "corner"]
    x, y = (PLACE_XY[place][k] + rng.randint(-jitter, jitter) for k in (0, 1))
    return Item(kind[1], kind[0], rng.choice(SIZES), weighted(rng, SPEC["textures"]), place, x, y)


def _chart(rng: random.Random, place: str) -> Chart:
    colors = rng.sample(COLORS, SPEC["chart_bars"])
    heights = [rng.randint(2, 6) for _ in colors]
    heights[rng.randrange(len(heights))] = 9
    return Chart(tuple(zip(colors, heights, strict=True)), place)
