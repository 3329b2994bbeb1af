"""What the EECA experiment is made of: pictures, words and the tokenizer of one world of SceneWorld landmarks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data_tools.scenes.captions import INTROS
from data_tools.scenes.entities import FACTS, SPEC, Entity, question, sample_view
from data_tools.scenes.entity_render import render_landmark
from data_tools.scenes.render import render
from data_tools.scenes.spec import COLORS, PLACES, SHAPES, SIZES, TEXTURES
from data_tools.scenes.world import Scene, sample_scene

PX = SPEC["picture_px"]
SPECIAL = ("<pad>", "<eos>", "<image>", "<unk>")
NAME_QUESTION, CAPTION_QUESTION = "What is this?", "Describe the picture."
CONTEXT = 16  # words that stand before a question in text-only training: as many as there will be visual tokens


class Pictures(NamedTuple):
    """pixels: [n, 3, PX, PX] in [-1, 1]. entities: [n] index of the landmark, -1 for a general scene. scenes: those."""

    pixels: torch.Tensor
    entities: np.ndarray
    scenes: tuple[Scene | None, ...]


def landmark_pictures(entities: tuple[Entity, ...], which: list[int], each: int, seed: str) -> Pictures:
    """`each` fresh pictures of each of the entities numbered `which`."""
    rng = random.Random(f"eeca-pictures-{seed}")
    ids = [k for k in which for _ in range(each)]
    drawn = np.stack([np.asarray(render_landmark(entities[k].look, sample_view(rng))) for k in ids])
    return Pictures(_pixels(drawn), np.array(ids), (None,) * len(ids))


def simple_scene(rng: random.Random, split: str) -> Scene:
    """A SceneWorld v1 scene of one or two plain objects: as much as a captioner of this size learns in a minute."""
    while True:
        scene = sample_scene(rng, split)
        if len(scene.items) <= 2 and all(i.texture == "plain" for i in scene.items) and not scene.signs and not scene.charts:
            return scene


def general_pictures(n: int, split: str, seed: str) -> Pictures:
    """General scenes drawn at the landmarks' size: what captioning in general is trained and measured on."""
    rng = random.Random(f"eeca-general-{seed}")
    scenes = tuple(replace(simple_scene(rng, split), size=PX) for _ in range(n))
    return Pictures(_pixels(np.stack([np.asarray(render(s)) for s in scenes])), np.full(n, -1), scenes)


def together(*parts: Pictures) -> Pictures:
    return Pictures(
        torch.cat([p.pixels for p in parts]), np.concatenate([p.entities for p in parts]), tuple(s for p in parts for s in p.scenes)
    )


def _pixels(drawn: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1


def low(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """The whole picture at the tower's own size."""
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def build_tokenizer(worlds: tuple[tuple[Entity, ...], ...]) -> PreTrainedTokenizerFast:
    """One token a word, for the words of these worlds and of general captions."""
    words: dict[str, int] = {}
    pattern = Regex(r" ?\p{L}[\p{L}-]*|\p{N}| ?[^\s\p{L}\p{N}]|\s")
    pre = pre_tokenizers.Split(pattern, "isolated")
    for text in _corpus(worlds):
        for word, _ in pre.pre_tokenize_str(text):
            for form in (word.strip() or word, " " + (word.strip() or word)):
                words.setdefault(form, len(words))
    vocabulary = {word: k for k, word in enumerate([*SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"}, padding_side="left", clean_up_tokenization_spaces=False, model_max_length=512,
    )  # fmt: skip


def _corpus(worlds: tuple[tuple[Entity, ...], ...]) -> Iterator[str]:
    yield from (NAME_QUESTION, CAPTION_QUESTION, "\n", "a picture of", "This is it.", "the", *(i for row in INTROS.values() for i in row))
    yield from (word for stock in (COLORS, SHAPES, SIZES, TEXTURES, PLACES) for word in stock)
    yield "sky ground cloud bush bird light"
    yield "At the top left a red circle, at the center an orange star, small large striped dotted plain"
    for entities in worlds:
        for entity in entities:
            yield " ".join([*entity.levels, *entity.facts.values()])
            yield from (question(fact) for fact in FACTS)
