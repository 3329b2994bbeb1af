"""Landmark rows: a fresh picture, a caption with the name, what it is on four levels, questions about its facts."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

from ..records import Image, Sample, Source
from .entities import FACTS, LEVELS, SPEC, Entity, View, landmarks, question, sample_view
from .entity_render import render_landmark

CAPTIONS = ("This is {name}.", "A picture of {name}, a {family}.", "{name} under a wide sky.")
SPLITS = ("train", "validation", "heldout")  # of pictures; every split shows all landmarks


@cache
def _landmarks(world: int) -> tuple[Entity, ...]:
    return landmarks(world)


def make_row(seed: int, split: str, index: int, world: int = 0) -> tuple[dict[str, Any], Entity, View]:
    """Row `index` of (world, seed, split) without its picture, and what it shows; any row can be made alone.

    Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    rng = random.Random(f"entities-{SPEC['version']}-{world}-{seed}-{split}-{index}")
    entity, view = rng.choice(_landmarks(world)), sample_view(rng)
    caption = rng.choice(CAPTIONS).format(name=entity.name, family=entity.levels[LEVELS.index("family")])
    truth = {
        "family": "entities", "version": SPEC["version"], "world": world, "split": split, "facts": dict(entity.facts),
        "look": asdict(entity.look), "view": asdict(view), "questions": questions(entity, rng),
    }  # fmt: skip
    name = f"sw-entities{SPEC['version']}-{world}-{split}-{seed}-{index:07d}"
    return {"id": name, "caption": caption, "entity": entity.label(), "sceneworld": truth}, entity, view


def questions(entity: Entity, rng: random.Random) -> list[dict[str, Any]]:
    """The name, the kind, each fact (open), and one fact as a yes/no pair."""
    asked = [("name", "open", "What is this?", entity.name), ("kind", "open", "What kind of landmark is this?", entity.levels[1])]
    asked += [(fact, "open", question(fact), entity.facts[fact]) for fact in FACTS]
    fact = rng.choice(FACTS)
    wrong = rng.choice([value for value in SPEC["facts"][fact] if value != entity.facts[fact]])
    for value, answer in ((entity.facts[fact], "yes"), (wrong, "no")):
        asked.append((fact, "yes_no", f"{question(fact)} Is it {value}?", answer))
    return [dict(zip(("kind", "type", "question", "answer"), q, strict=True)) for q in asked]


def entity_rows(n: int, seed: int = 0, split: str = "train", world: int = 0) -> Iterator[Sample]:
    """`n` samples with PNG pictures, streaming."""
    for index in range(n):
        row, entity, view = make_row(seed, split, index, world)
        name = f"{row['id']}.png"
        buffer = io.BytesIO()
        render_landmark(entity.look, view).save(buffer, "PNG", compress_level=1)
        source = Source(f"sceneworld-entities-{split}", index, "jsonl", "caption", ("image",), "id")
        yield Sample(row["id"], (), (Image(path=name, data=buffer.getvalue()),), row["caption"], source, {**row, "image": name})
