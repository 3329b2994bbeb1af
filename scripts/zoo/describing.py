"""How much of a picture descriptions name, and how much they invent: what tiny-lvlm is watched and measured by."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from data_tools.scenes.extract import agreement, mentions
from data_tools.scenes.render import render
from data_tools.scenes.world import HABITS, Scene, sample_scene
from mm_align.models import LvlmProcessor

from .lvlm import COMPANIONS, DETAILED


class Told(NamedTuple):
    """One description against its scene, in objects: claimed, of them there by colour and shape (`known`), of those with
    every stated attribute right; objects there are; invented ones, and of them companions of habit of what is there."""

    claimed: int
    known: int
    right: int
    truth: int
    invented: int
    habitual: int
    words: int


def told(text: str, scene: Scene) -> Told:
    found = agreement(text, scene)
    present = {(i.color, i.shape) for i in scene.items}
    companions = {COMPANIONS[i.color] for i in scene.items} - present
    habitual = sum((m.color, m.shape) in companions for m in mentions(text))
    known = found.claimed - found.invented
    return Told(found.claimed, known, found.right, found.truth, found.invented, habitual, len(text.split()))


def figures(descriptions: Sequence[Told]) -> dict[str, float]:
    """Shares over a set of descriptions: responses that invent, of them from habit; objects named; mentions fully right."""
    inventing = [t for t in descriptions if t.invented]
    total = {name: sum(getattr(t, name) for t in descriptions) for name in Told._fields}
    return {
        "hallucinating": round(len(inventing) / len(descriptions), 4),
        "from_habit": round(sum(t.habitual > 0 for t in inventing) / max(1, len(inventing)), 4),
        "invented_objects": round(total["invented"] / max(1, total["claimed"]), 4),
        "coverage": round(total["known"] / total["truth"], 4),
        "attributes_right": round(total["right"] / max(1, total["known"]), 4),
        "words": round(total["words"] / len(descriptions), 2),
    }


def without_habits(split: str, count: int, seed: str) -> list[Scene]:
    """Scenes of a split in which no companion of habit stands beside its trigger, as in all held-out scenes."""
    rng, made = random.Random(f"describing-{seed}-{split}"), []
    while len(made) < count:
        scene = sample_scene(rng, split)
        kinds = {(i.color, i.shape) for i in scene.items}
        if not any(HABITS.get(kind) in kinds for kind in kinds):
            made.append(scene)
    return made


@torch.inference_mode()
def describe(model: nn.Module, processor: LvlmProcessor, scenes: Sequence[Scene], prompt: str, **options: Any) -> list[str]:
    """The model's answers to one prompt, `options` as `generate` takes them."""
    ids = [processor.image_token_id] * processor.num_image_tokens + processor.text_ids("\n") + processor.text_ids(prompt)
    pixels = torch.from_numpy(processor.image_processor.pixels([render(scene) for scene in scenes]))
    rows = torch.tensor([ids] * len(scenes))
    out = model.generate(input_ids=rows, attention_mask=torch.ones_like(rows), pixel_values=pixels, max_new_tokens=160, **options)
    return processor.tokenizer.batch_decode(out[:, len(ids) :], skip_special_tokens=True)


def describing_curve(model: nn.Module, processor: LvlmProcessor) -> dict[str, Any]:
    """Greedy and sampled descriptions of 64 validation scenes without habits."""
    scenes = without_habits("validation", 64, "curve")
    state = torch.get_rng_state()  # watching must not change what is learned
    torch.manual_seed(0)
    texts = {way: describe(model, processor, scenes, DETAILED[0], do_sample=way == "sampled", top_k=0) for way in ("greedy", "sampled")}
    torch.set_rng_state(state)
    return {way: figures([told(text, scene) for text, scene in zip(ts, scenes, strict=True)]) for way, ts in texts.items()}


def mixed_share(groups: Iterable[Sequence[Told]]) -> float:
    """Of groups of candidates, each of one picture: the share in which some invent and some do not."""
    inventing = [sum(t.invented > 0 for t in group) / len(group) for group in groups]
    return round(sum(0 < share < 1 for share in inventing) / len(inventing), 4)
