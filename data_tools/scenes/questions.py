"""Yes/no and open questions about a scene, with answers: existence, attribute, count, relation, text."""

from __future__ import annotations

import random
from typing import Any

from .captions import NUMBERS, noun_phrase, place_phrase
from .captions import Mention as M
from .spec import COLORS, SHAPES, SPEC
from .world import HABITS, OPPOSITE, Scene, relation


def questions(scene: Scene, rng: random.Random) -> list[dict[str, Any]]:
    """Questions as {kind, type: "yes_no" | "open", question, answer}; yes and no come in pairs."""
    asked = _existence(scene, rng) + _attribute(scene, rng) + _count(scene, rng) + _relation(scene, rng) + _text(scene, rng)
    return [dict(zip(("kind", "type", "question", "answer"), q, strict=True)) for q in asked]


def distractors(scene: Scene, rng: random.Random, n: int = 3) -> list[tuple[str, str]]:
    """(colour, shape) pairs that are not there but plausible: companions of habit first, then random ones."""
    present = {(i.color, i.shape) for i in scene.items}
    habitual = [HABITS[k] for k in sorted(present) if k in HABITS and HABITS[k] not in present]
    while len(habitual) < n:
        pair = (rng.choice(COLORS), rng.choice(SHAPES))
        if pair not in present and pair not in habitual:
            habitual.append(pair)
    return habitual[:n]


def _existence(scene: Scene, rng: random.Random) -> list[tuple[str, str, str, str]]:
    item = rng.choice(scene.items)
    color, shape = distractors(scene, rng, 1)[0]
    return [
        ("existence", "yes_no", f"Is there {noun_phrase(M(item.shape, item.color))} in the image?", "yes"),
        ("existence", "yes_no", f"Is there {noun_phrase(M(shape, color))} in the image?", "no"),
    ]


def _attribute(scene: Scene, rng: random.Random) -> list[tuple[str, str, str, str]]:
    item = rng.choice(scene.items)
    where = place_phrase(item.place, 0)
    wrong = rng.choice([c for c in COLORS if c != item.color])
    return [
        ("attribute", "yes_no", f"Is the object {where} {item.color}?", "yes"),
        ("attribute", "yes_no", f"Is the object {where} {wrong}?", "no"),
        ("attribute", "open", f"What color is the object {where}?", item.color),
        ("attribute", "open", f"What shape is the object {where}?", item.shape),
        ("attribute", "open", f"What texture has the object {where}?", item.texture),
    ]


def _count(scene: Scene, rng: random.Random) -> list[tuple[str, str, str, str]]:
    color = rng.choice(scene.items).color
    true = sum(i.color == color for i in scene.items)
    wrong = true + rng.choice([-1, 1]) if true > 1 else true + 1
    return [
        ("count", "yes_no", f"Are exactly {NUMBERS[true]} objects {color}?", "yes"),
        ("count", "yes_no", f"Are exactly {NUMBERS[wrong]} objects {color}?", "no"),
        ("count", "open", "How many objects are there?", NUMBERS[len(scene.items)]),
    ]


def _relation(scene: Scene, rng: random.Random) -> list[tuple[str, str, str, str]]:
    if len(scene.items) < 2:
        return []
    a, b = rng.sample(scene.items, 2)
    if (a.color, a.shape) == (b.color, b.shape):
        return []
    first, second = (f"the {i.color} {i.shape} {place_phrase(i.place, 0)}" for i in (a, b))
    true = relation(a, b)
    return [
        ("relation", "yes_no", f"Is {first} {true} {second}?", "yes"),
        ("relation", "yes_no", f"Is {first} {OPPOSITE[true]} {second}?", "no"),
    ]


def _text(scene: Scene, rng: random.Random) -> list[tuple[str, str, str, str]]:
    asked = []
    for sign in scene.signs:
        wrong = rng.choice([w for w in SPEC["sign_words"] if w != sign.word])
        asked += [
            ("text", "open", "What does the sign say?", sign.word),
            ("text", "yes_no", f"Does the sign say {sign.word}?", "yes"),
            ("text", "yes_no", f"Does the sign say {wrong}?", "no"),
        ]
    for chart in scene.charts:
        asked.append(("text", "open", "Which color has the tallest bar of the chart?", chart.tallest))
    return asked
