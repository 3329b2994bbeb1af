"""Films: a resident, a traveller, visitors one after another and a flash of colour, with questions on what happens and when."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .captions import NUMBERS, place_phrase
from .spec import COLORS, PLACES, SHAPES, SIZES, SPEC, TEXTURES
from .world import PLACE_XY, Item, Scene

VERSION = 1
DURATION = 16.0  # seconds
VISITORS = 3  # at most
STAY = 0.22  # of the duration, for which a visitor is seen
JOURNEY = 0.15  # of the duration
FLASH = 1 / 16  # of the duration: sixteen frames at equal times see every flash, four see a quarter of them
CORNERS = tuple(place for place in PLACES if place != "center")
KINDS = ("order", "count", "action", "needle", "detail")


@dataclass(frozen=True, slots=True)
class Actor:
    """One object: what it is, when it can be seen [start, end), and for a traveller where it goes and when."""

    role: str
    color: str
    shape: str
    size: str
    texture: str
    place: str
    start: float
    end: float
    to: str = ""
    leaves: float = 0.0
    arrives: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    def at(self, time: float) -> Item | None:
        """The object as it is to be drawn at `time`, None where it is not seen."""
        if not self.start <= time < self.end:
            return None
        way = 0.0 if not self.to else min(1.0, max(0.0, (time - self.leaves) / (self.arrives - self.leaves)))
        here, there = PLACE_XY[self.place], PLACE_XY[self.to or self.place]
        x, y = (round(a + way * (b - a)) for a, b in zip(here, there, strict=True))
        return Item(self.shape, self.color, self.size, self.texture, self.place, x, y)


@dataclass(frozen=True, slots=True)
class Flash:
    """The needle: in [start, end) the background has this colour."""

    color: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Film:
    """Everything there is to know about one video; `duration` in seconds."""

    size: int
    background: str
    duration: float
    actors: tuple[Actor, ...]
    flash: Flash

    def scene(self, time: float) -> Scene:
        """What is seen at `time`, in seconds, as a scene that `render` draws."""
        background = self.flash.color if self.flash.start <= time < self.flash.end else self.background
        return Scene(self.size, background, tuple(item for actor in self.actors if (item := actor.at(time)) is not None))

    def of(self, role: str) -> list[Actor]:
        """The actors of one role, by the time they come."""
        return sorted((actor for actor in self.actors if actor.role == role), key=lambda actor: actor.start)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Film:
        actors = tuple(Actor(**actor) for actor in d["actors"])
        return cls(d["size"], d["background"], d["duration"], actors, Flash(**d["flash"]))

    def split(self) -> str:
        """The split that what happens belongs to, by its hash."""
        told = json.dumps([self.flash.color, *([a.role, a.name, a.texture, a.size, a.place, a.to] for a in self.actors)])
        bucket = int(hashlib.sha256(told.encode()).hexdigest()[:8], 16) % 100
        return next(str(name) for name, (low, high) in SPEC["splits"].items() if low <= bucket < high)


def sample_film(rng: random.Random, split: str, duration: float = DURATION) -> Film:
    """A random film of `split`. ValueError for an unknown split."""
    if split not in SPEC["splits"]:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPEC['splits'])}")
    while True:
        film = _draw(rng, duration)
        if film.split() == split:
            return film


def _draw(rng: random.Random, duration: float) -> Film:
    """Every actor has a colour and a shape that no other one has, and a place of its own."""
    count = rng.randint(1, VISITORS)
    names = zip(rng.sample(COLORS, count + 2), rng.sample(SHAPES, count + 2), strict=True)
    corners = rng.sample(CORNERS, len(CORNERS))
    actors = [
        _actor(rng, "resident", next(names), corners[0], 0.0, duration),
        _traveller(rng, next(names), corners[1], corners[2], duration),
        *_visitors(rng, list(names), corners[3], duration),
    ]
    start = rng.uniform(0.02, 0.98 - FLASH) * duration
    flash = Flash(rng.choice(COLORS), start, start + FLASH * duration)
    return Film(64, rng.choice(list(SPEC["backgrounds"])), duration, tuple(actors), flash)


def _actor(rng: random.Random, role: str, name: tuple[str, str], place: str, start: float, end: float, **way: Any) -> Actor:
    return Actor(role, *name, rng.choice(SIZES), rng.choice(TEXTURES), place, start, end, **way)


def _traveller(rng: random.Random, name: tuple[str, str], place: str, to: str, duration: float) -> Actor:
    leaves = rng.uniform(0.15, 0.65) * duration
    return _actor(rng, "traveller", name, place, 0.0, duration, to=to, leaves=leaves, arrives=leaves + JOURNEY * duration)


def _visitors(rng: random.Random, names: list[tuple[str, str]], place: str, duration: float) -> Iterator[Actor]:
    """One after the other at one place, each in its share of the time."""
    share = duration / VISITORS
    for turn, name in zip(sorted(rng.sample(range(VISITORS), len(names))), names, strict=True):
        start = turn * share + rng.uniform(0.05, 0.95) * (share - STAY * duration)
        yield _actor(rng, "visitor", name, place, start, start + STAY * duration)


# -- questions ---------------------------------------------------------------------------------------------------------


def film_questions(film: Film) -> list[dict[str, Any]]:
    """Questions as {kind, type, question, answer}, the answers single words or places."""
    asked = [*_order(film), *_count(film), *_action(film), *_needle(film), *_detail(film)]
    return [dict(zip(("kind", "type", "question", "answer"), row, strict=True)) for row in asked]


def _where(actor: Actor) -> str:
    return place_phrase(actor.place, 0)


def _order(film: Film) -> Iterator[tuple[str, str, str, str]]:
    visitors = film.of("visitor")
    yield "order", "open", f"What color comes first {_where(visitors[0])}?", visitors[0].color
    yield "order", "open", f"What color comes last {_where(visitors[0])}?", visitors[-1].color


def _count(film: Film) -> Iterator[tuple[str, str, str, str]]:
    visitors = film.of("visitor")
    yield "count", "open", f"How many objects come {_where(visitors[0])}?", NUMBERS[len(visitors)]


def _action(film: Film) -> Iterator[tuple[str, str, str, str]]:
    (traveller,) = film.of("traveller")
    yield "action", "open", f"From where does the {traveller.name} move?", traveller.place
    yield "action", "open", f"Where does the {traveller.name} go?", traveller.to


def _needle(film: Film) -> Iterator[tuple[str, str, str, str]]:
    yield "needle", "open", "In which color does the background flash up?", film.flash.color


def _detail(film: Film) -> Iterator[tuple[str, str, str, str]]:
    (resident,) = film.of("resident")
    yield "detail", "open", f"What texture has the object {_where(resident)}?", resident.texture
    yield "detail", "open", f"What size has the object {_where(resident)}?", resident.size
