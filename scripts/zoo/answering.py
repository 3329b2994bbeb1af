"""Asking any backend about scenes: descriptions, short answers, and the probabilities of yes and of no."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import PIL.Image

from data_tools.calls import Backend, Sampling
from data_tools.records import Image, Message, Part, Sample
from data_tools.scenes.questions import questions
from data_tools.scenes.render import render
from data_tools.scenes.world import Scene, sample_scene

from .judging import Answer, Asked

SPELLINGS = ("yes", "Yes", "no", "No")  # as RLAIF-V reads a labeller [R]


@lru_cache(maxsize=4096)
def picture(scene: Scene) -> PIL.Image.Image:
    return render(scene)


def sample(name: str, scene: Scene, question: str) -> Sample:
    """One question about a scene's picture, as a backend takes it."""
    return Sample(name, (Message("user", (Part("image"), Part("text", question))),), (Image(pixels=picture(scene)),))


def described(backend: Backend, scenes: Sequence[Scene], prompt: str, sampling: Sampling) -> list[list[str]]:
    """`sampling.n` texts for each scene."""
    asked = [sample(f"scene-{k}", scene, prompt) for k, scene in enumerate(scenes)]
    texts = [r.text for start in range(0, len(asked), 64) for r in backend.generate(asked[start : start + 64], sampling)]
    return [texts[k : k + sampling.n] for k in range(0, len(texts), sampling.n)]


def yes_no(backend: Backend, made: Sequence[Asked]) -> list[Answer]:
    """p(yes) and p(no) of each question, over two spellings each."""
    asked = [sample(str(k), m.scene, m.question) for k, m in enumerate(made)]
    found = []
    for start in range(0, len(asked), 64):
        part = asked[start : start + 64]
        for rows in backend.likelihood(part, [SPELLINGS] * len(part)):
            yes, Yes, no, No = (math.exp(sum(tokens)) for tokens in rows)
            found.append(Answer(yes + Yes, no + No))
    return found


def accuracy_of_answers(backend: Backend, split: str, scenes: int, seed: str) -> dict[str, float]:
    """Share of right answers to SceneWorld's questions by kind and type, greedy, case and a final full stop aside."""
    rng = random.Random(f"answering-{seed}-{split}")
    asked = [(scene, q) for scene in (sample_scene(rng, split) for _ in range(scenes)) for q in questions(scene, rng)]
    rows = [sample(str(k), scene, q["question"]) for k, (scene, q) in enumerate(asked)]
    texts = [r.text for start in range(0, len(rows), 64) for r in backend.generate(rows[start : start + 64], Sampling(max_tokens=8))]
    right: dict[str, list[bool]] = defaultdict(list)
    for (_, q), text in zip(asked, texts, strict=True):
        right[f"{q['kind']}, {q['type'].replace('_', '/')}"].append(text.lower().rstrip(".") == q["answer"].lower())
    return {kind: round(sum(hits) / len(hits), 4) for kind, hits in sorted(right.items())}
