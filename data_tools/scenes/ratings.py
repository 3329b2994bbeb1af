"""Whole detailed descriptions with a known number of errors, and the questions by which a judge rates them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from .captions import Mention, changed
from .descriptions import Description, described, plan_description
from .extract import agreement
from .questions import distractors
from .spec import PLACES, SIZES
from .statements import ATTRIBUTES
from .world import Scene

ERRORS = {0: 0.5, 1: 0.28, 2: 0.14, 3: 0.08}
FREE_OF_ERRORS = (  # the first one is canonical
    "{d}\nIs this description free of errors? Please answer yes or no.",
    "{d}\nIs everything in this description right? Answer yes or no.",
    "{d}\nIs this description of the image correct? Please answer yes or no.",
)
ONE_TO_FIVE = (
    "{d}\nRate this description from 1 to 5. 5 means no errors.",
    "{d}\nHow correct is this description? Answer with a number from 1 to 5.",
)


class Rated(NamedTuple):
    """A description and how many of its objects are wrong (invented, or with a wrong attribute)."""

    text: str
    errors: int

    @property
    def stars(self) -> int:
        """5 without errors, one less for each, at least 1."""
        return max(1, 5 - self.errors)


def rated(scene: Scene, rng: random.Random) -> Rated:
    """A true description half of the time, otherwise one with one to three damaged or invented objects."""
    plan = plan_description(scene, rng)
    for _ in range(rng.choices(list(ERRORS), list(ERRORS.values()))[0]):
        plan = rng.choice(_DAMAGES)(plan, scene, rng)
    text = described(plan)
    found = agreement(text, scene)
    return Rated(text, found.claimed - found.right)


def question(made: Rated, rng: random.Random) -> tuple[str, str]:
    """(what a judge is asked about the description, the right answer: yes, no, or a digit)."""
    if rng.random() < 0.7:
        return rng.choice(FREE_OF_ERRORS).format(d=made.text), "no" if made.errors else "yes"
    return rng.choice(ONE_TO_FIVE).format(d=made.text), str(made.stars)


def invent(plan: Description, scene: Scene, rng: random.Random) -> Description:
    """One more object that is not there: a companion of habit where there is one, else any pair; mostly at an empty place."""
    color, shape = rng.choice(distractors(scene, rng, 2))
    taken = {m.place for m in plan.mentions}
    place = rng.choice([p for p in PLACES if p not in taken] or PLACES)
    texture = rng.choice(("", "", "striped", "dotted"))
    mentions = list(plan.mentions)
    mentions.insert(rng.randint(1, len(mentions)), Mention(shape, color, rng.choice(SIZES), texture, place))
    return replace(plan, mentions=tuple(mentions))


def misread(plan: Description, scene: Scene, rng: random.Random) -> Description:
    """One attribute of one object changed."""
    mentions = list(plan.mentions)
    k, attribute = rng.randrange(len(mentions)), rng.choice(list(ATTRIBUTES))
    now = getattr(mentions[k], attribute)
    values = [v for v in ATTRIBUTES[attribute] if v not in (now, "plain")]
    mentions[k] = changed(mentions[k], **{attribute: rng.choice(values)})
    return replace(plan, mentions=tuple(mentions))


_DAMAGES: tuple[Callable[[Description, Scene, random.Random], Description], ...] = (invent, misread)
