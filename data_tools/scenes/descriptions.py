"""Detailed descriptions of a scene: an opening, then one sentence or clause for each object, sign and chart."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .captions import Mention, chart_phrase, noun_phrase, place_phrase, sign_phrase
from .world import HABITS, Item, Scene

OPENINGS = (
    "This is a drawing on a {background} background.",
    "The picture shows a drawing on a {background} background.",
    "Here we see a drawing with a {background} background.",
)
FRAMES = {"there": "There is {what} {where}.", "is": "{what} is {where}.", "see": "I can see {what} {where}.", "clauses": "{what} {where}"}
STYLES = {"there": 0.4, "is": 0.25, "see": 0.2, "clauses": 0.15}


@dataclass(frozen=True, slots=True)
class Description:
    """A detailed description before it has words. `style` is a key of `FRAMES` and holds for all its sentences."""

    background: str
    mentions: tuple[Mention, ...]
    signs: tuple[tuple[str, str], ...] = ()  # (word, place)
    charts: tuple[tuple[str, str], ...] = ()  # (tallest bar's colour, place)
    opening: int = 0
    style: str = "there"
    wording: int = 0  # of places, see `captions.place_phrase`


def plan_description(scene: Scene, rng: random.Random) -> Description:
    """A true description that names everything, of random style and wording."""
    return Description(
        scene.background,
        tuple(full_mention(item) for item in told_in_order(scene)),
        tuple((s.word, s.place) for s in scene.signs),
        tuple((c.tallest, c.place) for c in scene.charts),
        rng.randrange(len(OPENINGS)),
        rng.choices(list(STYLES), list(STYLES.values()))[0],
        rng.randrange(2),
    )


def full_mention(item: Item) -> Mention:
    """All there is to say of an object; a plain texture is not said."""
    return Mention(item.shape, item.color, item.size, "" if item.texture == "plain" else item.texture, item.place)


def told_in_order(scene: Scene) -> list[Item]:
    """The objects in reading order, but a companion of habit comes directly behind the object it goes with."""
    left, told = list(scene.items), []
    while left:
        told.append(left.pop(0))
        companion = HABITS.get((told[-1].color, told[-1].shape))
        behind = next((k for k, item in enumerate(left) if (item.color, item.shape) == companion), None)
        if behind is not None:
            left.insert(0, left.pop(behind))
    return told


def described(plan: Description) -> str:
    """The text a plan stands for."""
    told = [(noun_phrase(m), m.place) for m in plan.mentions]
    told += [(sign_phrase(word), place) for word, place in plan.signs] + [(chart_phrase(color), place) for color, place in plan.charts]
    phrases = [FRAMES[plan.style].format(what=what, where=place_phrase(place, plan.wording)) for what, place in told]
    opening = OPENINGS[plan.opening].format(background=plan.background)
    if plan.style == "clauses":
        return f"{opening} It shows {', '.join(phrases)}."
    return " ".join([opening, *(phrase[0].upper() + phrase[1:] for phrase in phrases)])


def detailed_description(scene: Scene, rng: random.Random) -> str:
    """One true detailed description of random style and wording."""
    return described(plan_description(scene, rng))
