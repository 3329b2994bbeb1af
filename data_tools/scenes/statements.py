"""Statements about a scene, true and false in pairs, each also as a yes/no question: what a judge of claims is asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .captions import NUMBERS, Mention, changed, noun_phrase, place_phrase
from .descriptions import full_mention
from .questions import distractors
from .spec import COLORS, PLACES, SHAPES, SIZES, SPEC, TEXTURES
from .world import OPPOSITE, Item, Scene, relation

ATTRIBUTES = {"color": COLORS, "shape": SHAPES, "size": SIZES, "texture": TEXTURES, "place": PLACES}
OBJECT_FORMS = (  # (statement, question) about {np}, a noun phrase with its place
    ("There is {np}.", "Is there {np}?"),
    ("There is {np} in the image.", "Is there {np} in the image?"),
    ("The image shows {np}.", "Does the image show {np}?"),
    ("I can see {np}.", "Can you see {np}?"),
    ("The picture contains {np}.", "Does the picture contain {np}?"),
)
BACKGROUND_FORMS = (  # the last three are the openings of detailed descriptions
    ("the background is {b}.", "is the background {b}?"),
    ("the image has a {b} background.", "does the image have a {b} background?"),
    ("this is a drawing on a {b} background.", "is this a drawing on a {b} background?"),
    ("the picture shows a drawing on a {b} background.", "does the picture show a drawing on a {b} background?"),
    ("here we see a drawing with a {b} background.", "do we see a drawing with a {b} background?"),
)
PLACED_FORM = ("{np} is {place}.", "Is {np} {place}?")
QUESTION_ENDS = ("", " Please answer yes or no.", " Answer yes or no.", " Answer with yes or no.", " Yes or no?")
CHECKS = (
    "{s} Is this right?",
    "{s} Is this true?",
    "{s} Is this correct?",
    "Is this statement about the image true? {s}",
    "Is it true? {s}",
)


class Statement(NamedTuple):
    """A sentence about a scene, the question that asks it, and whether it is true.

    kind: existence (a colour and a shape), invented (a whole mention of something absent), object (colour or shape of a
    whole mention), size, texture, position, attribute (of what lies at a place), count, relation, text, background.
    """

    kind: str
    text: str
    question: str
    true: bool


def statements(scene: Scene, rng: random.Random) -> list[Statement]:
    """A true and a false statement of every kind that the scene has room for."""
    return [s for kind in KINDS for s in pair(scene, kind, rng)]


def pair(scene: Scene, kind: str, rng: random.Random) -> list[Statement]:
    """[a true statement, a false one] of `kind`; empty where the scene has no room for it."""
    made = KINDS[kind](scene, rng)
    return [Statement(kind, _sentence(text), _sentence(question), k == 0) for k, (text, question) in enumerate(made)]


def asked(statement: Statement, rng: random.Random) -> str:
    """One of the ways to put it to a model: the question, or the sentence and whether it is right."""
    text = statement.question if rng.random() < 0.7 else rng.choice(CHECKS).format(s=statement.text)
    return text + rng.choice(QUESTION_ENDS)


def holds(mention: Mention, items: Sequence[Item]) -> bool:
    """Whether some object has every attribute the mention states."""
    return any(all(getattr(mention, a) in ("", getattr(item, a)) for a in ATTRIBUTES) for item in items)


Told = list[tuple[str, str]]


def _existence(scene: Scene, rng: random.Random) -> Told:
    item, (color, shape) = rng.choice(scene.items), rng.choice(distractors(scene, rng, 2))
    form = rng.choice(OBJECT_FORMS)
    return [_formed(form, Mention(item.shape, item.color)), _formed(form, Mention(shape, color))]


def _invented(scene: Scene, rng: random.Random) -> Told:
    """A whole sentence about an object, against one about a pair that is not there, mostly at an empty place."""
    color, shape = rng.choice(distractors(scene, rng, 2))
    taken = {i.place for i in scene.items}
    places = [p for p in PLACES if p not in taken] if rng.random() < 0.8 and len(taken) < len(PLACES) else list(PLACES)
    texture = rng.choice(scene.items).texture
    absent = Mention(shape, color, rng.choice(SIZES), "" if texture == "plain" else texture, rng.choice(places))
    return _both(full_mention(rng.choice(scene.items)), absent, rng)


def _changed(attributes: tuple[str, ...]) -> Callable[[Scene, random.Random], Told]:
    def made(scene: Scene, rng: random.Random) -> Told:
        attribute = rng.choice(attributes)
        mention = _partial(rng.choice(scene.items), attribute, rng)
        wrong = [changed(mention, **{attribute: value}) for value in ATTRIBUTES[attribute] if value != "plain"]
        wrong = [m for m in wrong if not holds(m, scene.items)]
        sayable = [i for i in scene.items if getattr(i, attribute) != "plain"]  # so that a texture that is said is true as often as not
        return _both(_partial(rng.choice(sayable), attribute, rng), rng.choice(wrong), rng) if wrong and sayable else []

    return made


def _partial(item: Item, attribute: str, rng: random.Random) -> Mention:
    """The object with `attribute` and, mostly, what else there is to say of it."""
    mention = full_mention(item)
    left_out = {a: "" for a in ("size", "texture", "place") if a != attribute and rng.random() < 0.25}
    return changed(mention, **left_out)


def _both(true: Mention, false: Mention, rng: random.Random) -> Told:
    wording = rng.randrange(2)
    forms = [*OBJECT_FORMS, PLACED_FORM, PLACED_FORM] if true.place and false.place else OBJECT_FORMS
    form = rng.choice(forms)
    return [_formed(form, true, wording), _formed(form, false, wording)]


def _formed(form: tuple[str, str], m: Mention, wording: int = 0) -> tuple[str, str]:
    place = place_phrase(m.place, wording) if m.place else ""
    np = noun_phrase(m) if form is PLACED_FORM or not place else f"{noun_phrase(m)} {place}"
    return form[0].format(np=np, place=place), form[1].format(np=np, place=place)


def _attribute(scene: Scene, rng: random.Random) -> Told:
    item = rng.choice(scene.items)
    name = rng.choice(("color", "shape", "size", "texture"))
    true = getattr(item, name)
    wrong = rng.choice([v for v in ATTRIBUTES[name] if v != true])
    subject = _subject(item, scene, name, rng)
    said = (f"a {value}" if name == "shape" else value for value in (true, wrong))
    return [(f"{subject} is {value}.", f"Is {subject} {value}?") for value in said]


def _subject(item: Item, scene: Scene, name: str, rng: random.Random) -> str:
    """ "the object at the top left", or "the red circle" where that is one object and does not say what is asked."""
    alone = sum((i.color, i.shape) == (item.color, item.shape) for i in scene.items) == 1
    if name in ("size", "texture") and alone and rng.random() < 0.6:
        return f"the {item.color} {item.shape}"
    return f"the object {place_phrase(item.place, rng.randrange(2))}"


def _count(scene: Scene, rng: random.Random) -> Told:
    name = rng.choice(("", "color", "shape"))
    value = getattr(rng.choice(scene.items), name) if name else ""
    true = sum(getattr(i, name, "") == value for i in scene.items)
    wrong = true + rng.choice([-1, 1]) if true > 1 else true + 1
    return [_counted(n, {"": "object", "color": f"{value} object", "shape": value}[name]) for n in (true, wrong)]


def _counted(n: int, noun: str) -> tuple[str, str]:
    if n == 1:
        return f"there is exactly one {noun}.", f"is there exactly one {noun}?"
    plural = noun + ("es" if noun.endswith("ss") else "s")
    return f"there are exactly {NUMBERS[n]} {plural}.", f"are there exactly {NUMBERS[n]} {plural}?"


def _relation(scene: Scene, rng: random.Random) -> Told:
    if len(scene.items) < 2:
        return []
    a, b = rng.sample(scene.items, 2)
    if (a.color, a.shape) == (b.color, b.shape):
        return []
    placed = any(sum((i.color, i.shape) == (x.color, x.shape) for i in scene.items) > 1 for x in (a, b)) or rng.random() < 0.3
    first, second = (f"the {i.color} {i.shape}" + (f" {place_phrase(i.place, 0)}" if placed else "") for i in (a, b))
    true = relation(a, b)
    return [(f"{first} is {said} {second}.", f"is {first} {said} {second}?") for said in (true, OPPOSITE[true])]


def _text(scene: Scene, rng: random.Random) -> Told:
    if scene.signs:
        true = scene.signs[0].word
        wrong = rng.choice([w for w in SPEC["sign_words"] if w != true])
        if rng.random() < 0.5:
            return [(f"the sign says {word}.", f"does the sign say {word}?") for word in (true, wrong)]
        where = place_phrase(scene.signs[0].place, rng.randrange(2))
        return [(f"there is a sign that says {word} {where}.", f"is there a sign that says {word} {where}?") for word in (true, wrong)]
    if not scene.charts:
        return []
    true = scene.charts[0].tallest
    wrong = rng.choice([c for c in COLORS if c != true])
    where = place_phrase(scene.charts[0].place, rng.randrange(2))
    return [
        (f"there is a bar chart whose tallest bar is {c} {where}.", f"is there a bar chart whose tallest bar is {c} {where}?")
        for c in (true, wrong)
    ]


def _background(scene: Scene, rng: random.Random) -> Told:
    wrong = rng.choice([b for b in SPEC["backgrounds"] if b != scene.background])
    form = rng.choice(BACKGROUND_FORMS)
    return [(form[0].format(b=b), form[1].format(b=b)) for b in (scene.background, wrong)]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


KINDS: dict[str, Callable[[Scene, random.Random], Told]] = {
    "existence": _existence, "invented": _invented, "object": _changed(("color", "shape")), "size": _changed(("size",)),
    "texture": _changed(("texture",)), "position": _changed(("place",)), "attribute": _attribute, "count": _count,
    "relation": _relation, "text": _text, "background": _background,
}  # fmt: skip
