"""What tiny-judge learns from: true and false statements of every kind and whole descriptions to rate, alike."""

from __future__ import annotations

import random

from data_tools.scenes.ratings import question, rated
from data_tools.scenes.statements import KINDS, asked, pair
from data_tools.scenes.world import Scene, sample_scene

from .batches import Row, Stage

RATINGS = 2  # whole descriptions a picture
SHARES = {  # places and sizes are the hard part
    "existence": 1.5, "invented": 2, "object": 2.5, "size": 2.5, "texture": 2, "position": 3.5, "attribute": 2, "count": 1, "relation": 1.5,
    "text": 1, "background": 0.3,
}  # fmt: skip


class JudgeStage(Stage):
    """A picture with `part.captions` pairs of statements, one true and one false each, and `RATINGS` descriptions to rate."""

    seed_space = "zoo-judge"

    def picture(self, rng: random.Random) -> tuple[Scene, list[Row]]:
        scene = sample_scene(rng, "train")
        kinds = rng.choices(list(KINDS), [SHARES[kind] for kind in KINDS], k=self.part.captions)
        rows = [(asked(s, rng), "yes" if s.true else "no") for kind in kinds for s in pair(scene, kind, rng)]
        rows += [question(rated(scene, rng), rng) for _ in range(RATINGS)]
        return scene, [self.answered(text, answer) for text, answer in rows]
