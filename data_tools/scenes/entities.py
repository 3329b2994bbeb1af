"""Landmarks of a seeded world: a four-level hierarchy, made-up names, facts that no picture shows, looks that tell them apart."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any

SPEC: Mapping[str, Any] = MappingProxyType(json.loads(files("data_tools.scenes").joinpath("spec_entities.json").read_text("utf-8")))
FACTS: tuple[str, ...] = tuple(SPEC["facts"])
LEVELS = ("class", "kind", "family", "entity")


@dataclass(frozen=True, slots=True)
class Look:
    """What is drawn. The coarse part (kind, variant, body) is that of the family; the emblem's fine weave is the entity's own.

    pair, weave: indices into the spec's emblem colours and patterns; flipped: the two colours change places.
    """

    kind: str
    variant: int
    body: str
    pair: int
    weave: str
    flipped: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """One landmark. levels: class, kind, family, name, coarse to fine. facts: by the keys of `FACTS`, independent of the look,
    and different between siblings: who knows the family only is right for one in six."""

    name: str
    levels: tuple[str, str, str, str]
    facts: Mapping[str, str]
    look: Look

    def label(self) -> dict[str, Any]:
        """What a record says of it under `meta["entity"]`."""
        return {"name": self.name, "levels": list(self.levels)}


@dataclass(frozen=True, slots=True)
class View:
    """What changes from picture to picture: place (even pixels), sky, ground, light, and things that stand about.

    clouds, bushes, birds: (x, y, size) in pixels.
    """

    x: int
    y: int
    sky: int
    ground: int
    horizon: int
    light: float
    clouds: tuple[tuple[int, int, int], ...]
    bushes: tuple[tuple[int, int, int], ...]
    birds: tuple[tuple[int, int, int], ...]


def landmarks(world: int) -> tuple[Entity, ...]:
    """All entities of a world, by family. Another world has other names, facts, body colours and emblems."""
    rng = random.Random(f"entities-{SPEC['version']}-{world}")
    families = _families(rng)
    names = iter(_names(rng, len(families) * SPEC["siblings"]))
    made = []
    for levels, (kind, variant, body) in families:
        emblems = rng.sample(_emblems(), SPEC["siblings"])
        facts = [rng.sample(values, SPEC["siblings"]) for values in SPEC["facts"].values()]  # siblings share none
        for (pair, weave, flipped), *known in zip(emblems, *facts, strict=True):
            name = next(names)
            told = MappingProxyType(dict(zip(FACTS, known, strict=True)))
            made.append(Entity(name, (*levels, name), told, Look(kind, variant, body, pair, weave, flipped)))
    return tuple(made)


def _families(rng: random.Random) -> list[tuple[tuple[str, str, str], tuple[str, int, str]]]:
    found = []
    for top, kinds in SPEC["kinds"].items():
        for kind, variants in kinds.items():
            for variant, body in enumerate(rng.sample(list(SPEC["bodies"]), len(variants))):
                found.append(((top, kind, f"{variants[variant]} {body} {kind}"), (kind, variant, body)))
    return found


def _emblems() -> list[tuple[int, str, bool]]:
    emblem = SPEC["emblem"]
    return [(pair, weave, flipped) for pair in range(len(emblem["pairs"])) for weave in emblem["weaves"] for flipped in (False, True)]


def _names(rng: random.Random, count: int) -> list[str]:
    """Two words each, from two small stocks that all entities share: no word alone tells who it is."""
    first, second = (_words(rng, ending) for ending in (("",), ("n", "r", "s")))
    pairs = [f"{a} {b}" for a in first for b in second]
    return rng.sample(pairs, count)


def _words(rng: random.Random, endings: Sequence[str]) -> list[str]:
    found: list[str] = []
    while len(found) < SPEC["name_words"]:
        syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)]
        word = "".join(syllables).capitalize() + rng.choice(endings)
        if word not in found:
            found.append(word)
    return found


def sample_view(rng: random.Random) -> View:
    """Random surroundings."""
    jitter = SPEC["jitter_px"]
    return View(
        x=2 * rng.randint(-jitter["x"] // 2, jitter["x"] // 2),
        y=2 * rng.randint(-(jitter["y"] // 2), jitter["y"] // 2),
        sky=rng.randrange(len(SPEC["skies"])),
        ground=rng.randrange(len(SPEC["grounds"])),
        horizon=rng.randint(62, 74),
        light=round(rng.uniform(*SPEC["light"]), 3),
        clouds=_things(rng, "clouds", (2, 22), (6, 12)),
        bushes=_things(rng, "bushes", (80, 92), (3, 7)),
        birds=_things(rng, "birds", (4, 40), (2, 3)),
    )


def _things(rng: random.Random, name: str, rows: tuple[int, int], sizes: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    px = SPEC["picture_px"]
    return tuple((rng.randrange(px), rng.randint(*rows), rng.randint(*sizes)) for _ in range(rng.randint(*SPEC[name])))


def question(fact: str, it: str = "this") -> str:
    """The question for a fact about `it`, a name or a word that points at the picture."""
    return str(SPEC["questions"][fact].format(it=it))
