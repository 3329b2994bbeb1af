"""Training batches of the zoo, made on the fly: batch `i` of a stage is a function of (seed, i) alone, so resume is exact."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from data_tools.scenes.render import render as draw
from data_tools.scenes.spec import COLORS, PLACES, SHAPES, SIZES, SPEC, TEXTURES
from data_tools.scenes.world import Scene
from mm_align.losses.base import IGNORE
from mm_align.models import LvlmProcessor

from .plan import Part

BLOCK = 4  # batches that are drawn together, then dealt out by length
SHORT = 3  # tokens of an answer that is one decision
CELL_HEADS = {"shape": len(SHAPES), "color": len(COLORS), "texture": len(TEXTURES), "size": len(SIZES), "content": 4, "word": 8, "bar": 8}


@dataclass
class Row:
    """One question and its answer: ids, the weight of the loss on predicting each id, and what is wrong at which position."""

    ids: list[int]
    weights: list[float]
    judged: list[tuple[int, float]] = field(default_factory=list)


class Stage(Dataset, ABC):
    """`part.steps` batches of `part.pictures` packed sequences: a picture, then questions with answers that do not see each other."""

    seed_space = "zoo"  # models draw their scenes from seeds of their own

    def __init__(self, processor: LvlmProcessor, part: Part) -> None:
        self.processor, self.part = processor, part
        self.image = [processor.image_token_id] * processor.num_image_tokens + processor.text_ids("\n")
        self._block: tuple[int, list[dict[str, torch.Tensor]]] = (-1, [])

    @abstractmethod
    def picture(self, rng: random.Random) -> tuple[Scene, list[Row]]:
        """A scene and what is asked of it."""

    def answered(self, question: str, answer: str) -> Row:
        """A question and its answer as the processor makes them; the first token of a short answer has weight 6, the others 1."""
        asked, told = self.processor.text_ids(question), self.processor.text_ids(answer)
        weights = [6.0 if len(told) <= SHORT else 1.0] + [1.0] * len(told)
        return Row(asked + told + [self.processor.tokenizer.eos_token_id], [0.0] * len(asked) + weights)

    def __len__(self) -> int:
        return self.part.steps

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if self._block[0] != i // BLOCK:
            self._block = (i // BLOCK, self._draw(i // BLOCK))
        return self._block[1][i % BLOCK]

    def _draw(self, block: int) -> list[dict[str, torch.Tensor]]:
        rng, n = random.Random(f"{self.seed_space}-{self.part.name}-{block}"), self.part.pictures
        made = [self.picture(rng) for _ in range(BLOCK * n)]
        made.sort(key=lambda m: sum(len(row.ids) for row in m[1]))
        batches = [self._batch(made[k * n : (k + 1) * n]) for k in range(BLOCK)]
        rng.shuffle(batches)
        return batches

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
