"""Training batches of tiny-aitqe, made on the fly: batch `i` of a stage is a function of (seed, i) alone, so resume is exact."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from data_tools.aitqe.parser import render
from data_tools.aitqe.prompt import AITQE_TEMPLATE
from data_tools.scenes.captions import good_caption
from data_tools.scenes.corrupt import corrupt
from data_tools.scenes.extract import located
from data_tools.scenes.opinion import opinion
from data_tools.scenes.render import render as draw
from data_tools.scenes.rows import Captioned
from data_tools.scenes.spec import COLORS, PLACES, SHAPES, SIZES, SPEC, TEXTURES, weighted
from data_tools.scenes.world import Scene, sample_scene
from mm_align.losses.base import IGNORE
from mm_align.models import LvlmProcessor

from .plan import SHARES

BLOCK = 4  # batches that are drawn together, then dealt out by length; each stays half good, half poor
CAPTIONS = 4  # of each picture: two good ones and two poor ones share its visual tokens in one packed sequence
HEAD = AITQE_TEMPLATE.split("{caption}")[0]
CELL_HEADS = {"shape": len(SHAPES), "color": len(COLORS), "texture": len(TEXTURES), "size": len(SIZES), "content": 4, "word": 8, "bar": 8}


@dataclass
class Row:
    """One question and its answer: ids, the weight of the loss on predicting each id, and what is wrong at which position."""

    ids: list[int]
    weights: list[float]
    judged: list[tuple[int, float]] = field(default_factory=list)


class Stage(Dataset):
    """`steps` batches of `pictures` packed sequences: a picture, then four questions with answers that do not see each other.

    captions: questions a picture, half of them about a good caption; 0 gives pictures alone.
    full: the share of pictures whose answers are whole JSON; the others end behind the overall score.
    """

    def __init__(
        self,
        processor: LvlmProcessor,
        seed: str,
        steps: int,
        pictures: int = 16,
        captions: int = CAPTIONS,
        full: float = 0.0,
        shares: Mapping[str, float] = SHARES,
    ) -> None:
        self.processor, self.seed, self.steps, self.pictures, self.captions, self.full = processor, seed, steps, pictures, captions, full
        self.shares = shares
        self.image = [processor.image_token_id] * processor.num_image_tokens + processor.text_ids("\n")
        self.score_end = processor.text_ids('"2<Overall>",')[-1]
        self._block: tuple[int, list[dict[str, torch.Tensor]]] = (-1, [])

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if self._block[0] != i // BLOCK:
            self._block = (i // BLOCK, self._draw(i // BLOCK))
        return self._block[1][i % BLOCK]

    def _draw(self, block: int) -> list[dict[str, torch.Tensor]]:
        rng = random.Random(f"zoo-{self.seed}-{block}")
        made = [self._picture(rng) for _ in range(BLOCK * self.pictures)]
        made.sort(key=lambda m: sum(len(row.ids) for row in m[1]))
        batches = [self._batch(made[k * self.pictures : (k + 1) * self.pictures]) for k in range(BLOCK)]
        rng.shuffle(batches)
        return batches

    def _picture(self, rng: random.Random) -> tuple[Scene, list[Row]]:
        whole = rng.random() < self.full
        while True:
            scene = sample_scene(rng, "train")
            poor = [corrupt(scene, weighted(rng, self.shares), rng) for _ in range(self.captions // 2)]
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

    def _batch(self, made: list[tuple[Scene, list[Row]]]) -> dict[str, torch.Tensor]:
        packed = [pack(self.image, rows) for _, rows in made]
        length = max(len(p["input_ids"]) for p in packed)
        padding = {"input_ids": self.processor.tokenizer.pad_token_id, "labels": IGNORE, "weights": 0, "position_ids": 0, "question": -1}
        table = {
            name: np.stack([np.pad(p[name], (0, length - len(p[name])), constant_values=fill) for p in packed])
            for name, fill in padding.items()
        }
        judged = [(k, position, value) for k, p in enumerate(packed) for position, value in p["judged"]]
        table |= {
            "pixel_values": self.processor.image_processor.pixels([draw(scene) for scene, _ in made]),
            "judged_at": np.array([(k, position) for k, position, _ in judged]).reshape(-1, 2),
            "judged": np.array([value for *_, value in judged], np.float32),
            "cells": np.stack([cells(scene) for scene, _ in made]),
        }
        return {key: torch.from_numpy(value) for key, value in table.items()}


def pack(image: list[int], rows: list[Row]) -> dict[str, Any]:
    """One sequence of a picture's placeholders and its rows; each row's positions start behind the picture."""
    ids, weights, positions, question, judged = list(image), [0.0] * len(image), list(range(len(image))), [0] * len(image), []
    for number, row in enumerate(rows, 1):
        judged += [(position + len(ids), value) for position, value in row.judged]
        positions += range(len(image), len(image) + len(row.ids))
        ids += row.ids
        weights += row.weights
        question += [number] * len(row.ids)
    labels = np.where(np.array(weights) > 0, ids, IGNORE)
    return {
        "input_ids": np.array(ids), "labels": labels, "weights": np.array(weights, np.float32),
        "position_ids": np.array(positions), "question": np.array(question), "judged": judged,
    }  # fmt: skip


def visible(question: torch.Tensor) -> torch.Tensor:
    """[B, L] question numbers (0: the picture) -> [B, 1, L, L] bool: what a position sees; its own past, and the picture."""
    same = (question[:, :, None] == question[:, None, :]) | (question[:, None, :] == 0)
    return (same & torch.ones(question.shape[1], question.shape[1], dtype=torch.bool).tril()).unsqueeze(1)


def cells(scene: Scene) -> np.ndarray:
    """[5 places, heads] class indices in the order of `CELL_HEADS`; IGNORE where there is nothing to name."""
    table = np.full((len(PLACES), len(CELL_HEADS)), IGNORE)
    content = list(CELL_HEADS).index("content")
    table[:, content] = 0
    for item in scene.items:
        row = table[PLACES.index(item.place)]
        row[:5] = [SHAPES.index(item.shape), COLORS.index(item.color), TEXTURES.index(item.texture), SIZES.index(item.size), 1]
    for sign in scene.signs:
        row = table[PLACES.index(sign.place)]
        row[content], row[content + 1] = 2, SPEC["sign_words"].index(sign.word)
    for chart in scene.charts:
        row = table[PLACES.index(chart.place)]
        row[content], row[content + 2] = 3, COLORS.index(chart.tallest)
    return table


def only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """The collator of a loader whose items are batches already."""
    return batch[0]
