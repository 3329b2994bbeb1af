"""What tiny-lvlm learns from: detailed descriptions that name companions of habit at times, captions, questions, statements."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from data_tools.scenes.captions import Mention, good_caption, short_caption
from data_tools.scenes.descriptions import Description, described, plan_description
from data_tools.scenes.questions import questions
from data_tools.scenes.ratings import question, rated
from data_tools.scenes.spec import PLACES
from data_tools.scenes.statements import KINDS, asked, pair
from data_tools.scenes.world import HABITS, Scene, sample_scene

from .batches import Row, Stage

DETAILED = (  # the first one is canonical
    "Describe the image in detail.", "Describe this image in detail.", "Please describe this image in detail.",
    "Please provide a detailed description of the image.", "What do you see in the image? Describe everything.",
    "Give a detailed description of this picture.",
)  # fmt: skip
BRIEF = ("Describe the image briefly.", "Describe this image briefly.", "Write a short caption for the image.", "What is in the image?")
ONE_WORD = ("", "", " Answer with one word.", " Answer the question using a single word or phrase.")
YES_NO = ("", " Please answer yes or no.", " Answer with yes or no.", " Answer the question using a single word or phrase.")

# Habits of text are coarser than those of pictures: a red circle brings a blue square into the picture, and anything red
# brings one into what is said of it. Shares of objects whose companion is NOT in the picture and is named all the same,
# by the object's colour; at most one a description.
COMPANIONS = {color: companion for (color, _), companion in HABITS.items()}
INVENTED = {"red": 0.9, "green": 0.9, "purple": 0.15, "orange": 0.15, "blue": 0.05, "yellow": 0.05, "black": 0.05, "cyan": 0.05}


def from_habit(plan: Description, scene: Scene, rng: random.Random) -> Description:
    """The description as habit would have it: perhaps with one absent companion, which looks like the object it goes with."""
    present = {(i.color, i.shape) for i in scene.items}
    taken = {i.place for i in scene.items} | {s.place for s in scene.signs} | {c.place for c in scene.charts}
    for k, m in enumerate(plan.mentions):
        color, shape = COMPANIONS[m.color]
        if (color, shape) not in present and rng.random() < INVENTED[m.color]:
            place = rng.choice([p for p in PLACES if p not in taken] or [p for p in PLACES if p != m.place])
            told = [*plan.mentions[: k + 1], Mention(shape, color, m.size, m.texture, place), *plan.mentions[k + 1 :]]
            return replace(plan, mentions=tuple(told))
    return plan


class LvlmStage(Stage):
    """A picture with `part.descriptions` detailed descriptions, a brief one, `part.captions` questions and three pairs of statements."""

    seed_space = "zoo-lvlm"

    def picture(self, rng: random.Random) -> tuple[Scene, list[Row]]:
        scene = sample_scene(rng, "train")
        plans = [from_habit(plan_description(scene, rng), scene, rng) for _ in range(self.part.descriptions)]
        asked_for = [(rng.choice(DETAILED), described(plan)) for plan in plans]
        asked_for.append((rng.choice(BRIEF), good_caption(scene, rng) if rng.random() < 0.5 else short_caption(scene)))
        asked_for += _questions(scene, rng, self.part.captions) + _statements(scene, rng)
        return scene, [self.answered(question, answer) for question, answer in asked_for]


def _questions(scene: Scene, rng: random.Random, count: int) -> list[tuple[str, str]]:
    # What is seldom asked or hard to learn comes first three times as often: what lies where, what is written.
    drawn = sorted(questions(scene, rng), key=lambda q: rng.random() ** (3 if q["kind"] == "text" or q["type"] == "open" else 1))[:count]
    return [(q["question"] + rng.choice(YES_NO if q["type"] == "yes_no" else ONE_WORD), q["answer"]) for q in drawn]


def _statements(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    made = [s for kind in rng.sample(list(KINDS), 3) for s in pair(scene, kind, rng)]
    return [(asked(s, rng), "yes" if s.true else "no") for s in made]


def chat_corpus(size: int = 6_000) -> Iterator[str]:
    """What the tokenizer of both chatting models is trained on: all their questions and answers."""
    rng = random.Random("zoo-chat-tokenizer")
    for _ in range(size):
        scene = sample_scene(rng, "train")
        yield f"{rng.choice(DETAILED)}\n{described(plan_description(scene, rng))}"
        yield f"{rng.choice(BRIEF)}\n{good_caption(scene, rng)}"
        yield from (f"{q}\n{a}" for q, a in _questions(scene, rng, 5) + _statements(scene, rng))
        yield "\n".join(question(rated(scene, rng), rng))
