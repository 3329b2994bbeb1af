"""True captions of a scene in varied wording: a plan of what is mentioned, and its words."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from .spec import SPEC, weighted
from .world import Item, Scene, relation

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class Mention:
    """What a caption says of one object, or of `count` equal ones; an empty attribute is not said."""

    shape: str
    color: str
    size: str = ""
    texture: str = ""
    place: str = ""
    count: int = 1


def changed(mention: Mention, **attributes: Any) -> Mention:
    """The mention with other attributes, whose names may come from data."""
    return replace(mention, **attributes)


@dataclass(frozen=True, slots=True)
class Plan:
    """A caption before it has words. `relation` stands between the first two mentions of style "relation"."""

    style: str
    mentions: tuple[Mention, ...]
    relation: str = ""
    signs: tuple[tuple[str, str], ...] = ()  # (word, place)
    charts: tuple[tuple[str, str], ...] = ()  # (tallest bar's colour, place)
    background: str = ""
    intro: int = 0
    wording: int = 0
    full_stop: bool = True


INTROS = {
    "places": ("", "In this picture, ", "On a {background} background, "),
    "counts": ("", "A picture of ", "I can see ", "An image with "),
    "relation": ("", "A picture of ", "I can see ", "An image with "),
}
CORNERS = ("at the {place}", "in the {place} corner")
CENTERS = ("at the center", "in the middle")


def plan_caption(scene: Scene, rng: random.Random, style: str | None = None) -> Plan:
    """A random true plan; every object, sign and chart of the scene is mentioned."""
    style = style or weighted(rng, SPEC["caption_styles"])
    if style == "relation" and len(scene.items) < 2:
        style = "places"
    plan = _PLANS[style](scene, rng)
    return replace(
        plan,
        signs=tuple((s.word, s.place) for s in scene.signs),
        charts=tuple((c.tallest, c.place) for c in scene.charts),
        background=scene.background,
        intro=rng.randrange(len(INTROS[style])),
        wording=rng.randrange(2),
        full_stop=rng.random() < 0.7,
    )


def _mention(item: Item, *, size: bool, place: bool) -> Mention:
    texture = item.texture if item.texture != "plain" else ""
    return Mention(item.shape, item.color, item.size if size else "", texture, item.place if place else "")


def _places(scene: Scene, rng: random.Random) -> Plan:
    sized = rng.random() < 0.5
    mentions = [_mention(i, size=sized, place=True) for i in scene.items]
    rng.shuffle(mentions)
    return Plan("places", tuple(mentions))


def _counts(scene: Scene, rng: random.Random) -> Plan:
    groups = list(Counter((i.shape, i.color) for i in scene.items).items())
    rng.shuffle(groups)
    return Plan("counts", tuple(Mention(shape, color, count=n) for (shape, color), n in groups))


def _relation(scene: Scene, rng: random.Random) -> Plan:
    items = list(scene.items)
    rng.shuffle(items)
    mentions = tuple(replace(_mention(i, size=False, place=False), texture="") for i in items)
    return Plan("relation", mentions, relation(items[0], items[1]))


_PLANS = {"places": _places, "counts": _counts, "relation": _relation}


def words(plan: Plan) -> str:
    """The caption a plan stands for."""
    if plan.style == "places":
        phrases = [f"{place_phrase(m.place, plan.wording)} {noun_phrase(m)}" for m in plan.mentions]
        phrases += [f"{place_phrase(place, plan.wording)} {sign_phrase(word)}" for word, place in plan.signs]
        phrases += [f"{place_phrase(place, plan.wording)} {chart_phrase(color)}" for color, place in plan.charts]
        text = ", ".join(phrases)
    else:
        phrases = [noun_phrase(m) for m in plan.mentions]
        if plan.style == "relation":
            phrases[:2] = [f"{phrases[0]} {plan.relation} {phrases[1]}"]
        phrases += [sign_phrase(word) for word, _ in plan.signs] + [chart_phrase(color) for color, _ in plan.charts]
        text = ", ".join(phrases[:-1]) + " and " + phrases[-1] if len(phrases) > 1 else phrases[0]
    text = INTROS[plan.style][plan.intro].format(background=plan.background) + text
    return text[0].upper() + text[1:] + ("." if plan.full_stop else "")


def noun_phrase(m: Mention) -> str:
    """ "a small striped red circle", "two red circles"."""
    described = " ".join(w for w in (m.size, m.texture, m.color, m.shape) if w)
    if m.count == 1:
        return ("an " if described[0] in "aeiou" else "a ") + described
    return f"{NUMBERS[m.count]} {described}{'es' if m.shape == 'cross' else 's'}"


def place_phrase(place: str, wording: int) -> str:
    return CENTERS[wording] if place == "center" else CORNERS[wording].format(place=place)


def sign_phrase(word: str) -> str:
    return f"a sign that says {word}"


def chart_phrase(color: str) -> str:
    return f"a bar chart whose tallest bar is {color}"


def good_caption(scene: Scene, rng: random.Random) -> str:
    """One true caption of random style and wording."""
    return words(plan_caption(scene, rng))


def short_caption(scene: Scene) -> str:
    """The canonical short description, in reading order: what a rewrite should say."""
    return words(_canonical(scene, size=False))


def detailed_caption(scene: Scene) -> str:
    """Everything: background, size, texture and place of each object, signs and charts."""
    return words(replace(_canonical(scene, size=True), intro=2))


def _canonical(scene: Scene, *, size: bool) -> Plan:
    return Plan(
        "places",
        tuple(_mention(i, size=size, place=True) for i in scene.items),
        signs=tuple((s.word, s.place) for s in scene.signs),
        charts=tuple((c.tallest, c.place) for c in scene.charts),
        background=scene.background,
    )
