"""What tiny-aitqe learns from: good and poor captions of a picture, each with the answer of a perfect quality model."""

from __future__ import annotations

import random

from data_tools.aitqe.parser import render
from data_tools.aitqe.prompt import AITQE_TEMPLATE
from data_tools.scenes.captions import good_caption
from data_tools.scenes.corrupt import corrupt
from data_tools.scenes.extract import located
from data_tools.scenes.opinion import opinion
from data_tools.scenes.rows import Captioned
from data_tools.scenes.spec import weighted
from data_tools.scenes.world import Scene, sample_scene
from mm_align.models import LvlmProcessor

from .batches import Row, Stage
from .plan import Part

HEAD = AITQE_TEMPLATE.split("{caption}")[0]


class AitqeStage(Stage):
    """A picture with `part.captions` questions, half of them about a good caption.

    `part.full`: the share of pictures whose answers are whole JSON; the others end behind the overall score.
    """

    def __init__(self, processor: LvlmProcessor, part: Part) -> None:
        super().__init__(processor, part)
        self.score_end = processor.text_ids('"2<Overall>",')[-1]

    def picture(self, rng: random.Random) -> tuple[Scene, list[Row]]:
        whole = rng.random() < self.part.full
        while True:
            scene = sample_scene(rng, "train")
            poor = [corrupt(scene, weighted(rng, self.part.shares), rng) for _ in range(self.part.captions // 2)]
            if all(poor):
                break
        captions = [Captioned(scene, good_caption(scene, rng), "good", 0.0) for _ in poor]
        captions += [Captioned(scene, p.text, p.kind, p.severity) for p in poor if p]
        # Both poor captions have the same rewrite: it is written once, the other answer ends behind the decision.
        rows = [self.row(made, whole, decision_only=not whole and k == len(captions) - 1) for k, made in enumerate(captions)]
        rng.shuffle(rows)
        return scene, rows

    def row(self, made: Captioned, whole: bool, decision_only: bool = False) -> Row:
        """Prompt and answer as the processor makes them, with loss weights: 4 on the decision, 2 on the score, 1 on the rest."""
        tokenizer = self.processor.tokenizer
        encode = tokenizer.backend_tokenizer.encode
        prompt = encode(AITQE_TEMPLATE.replace("{caption}", made.text))
        answer = render(opinion(made))
        if not whole:
            answer = answer[: answer.index('",', answer.index("<Overall>")) + 2]
        answer_ids = encode(answer).ids[: 2 if decision_only else None] + ([tokenizer.eos_token_id] if whole else [])
        # A good caption is also something to say about the picture: half weight. A poor one is never imitated.
        caption_end = len(HEAD) + len(made.text)
        good = made.kind == "good"
        caption = [0.5 if good and len(HEAD) <= end - 1 < caption_end else 0.0 for _, end in prompt.offsets]
        return Row(prompt.ids + answer_ids, caption + self._answer_weights(answer_ids), self._judged(made, prompt.offsets))

    def _answer_weights(self, ids: list[int]) -> list[float]:
        weights = [1.0] * len(ids)
        weights[1] = 4.0
        if self.score_end in ids:
            weights[ids.index(self.score_end) - 1] = 2.0
        return weights

    def _judged(self, made: Captioned, offsets: list[tuple[int, int]]) -> list[tuple[int, float]]:
        """(position, 1 if wrong): the colour and the last word of each mention, and for the whole caption the prompt's end."""
        at = {end: k for k, (_, end) in enumerate(offsets)}
        judged = [(len(offsets) - 1, float(made.kind != "good"))]
        if made.kind not in ("good", "wrong_object", "wrong_color", "wrong_count", "wrong_relation", "missing_detail", "other_image"):
            return judged
        mentions = located(made.text)
        related = any(word in made.text for word in (" to the ", " above ", " below "))
        flipped = related and made.kind == "wrong_relation"
        counting = not related and not any(found.mention.place for found in mentions)
        for number, found in enumerate(mentions):
            m = found.mention
            here = [i for i in made.scene.items if m.place in ("", i.place)]
            right = [i for i in here if i.color == m.color and i.shape == m.shape]
            same_color = any(i.color == m.color for i in here)
            wrong = not right or (counting and len(right) != m.count) or (flipped and number == 1)
            for end, value in ((found.color_end, not same_color), (found.end, wrong)):
                if end + len(HEAD) in at:
                    judged.append((at[end + len(HEAD)], float(value)))
        return judged
