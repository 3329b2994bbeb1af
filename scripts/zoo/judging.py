"""How well yes/no answers agree with the truth: what tiny-judge is watched and measured by."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from data_tools.scenes.ratings import FREE_OF_ERRORS, rated
from data_tools.scenes.render import render
from data_tools.scenes.statements import KINDS, asked, pair
from data_tools.scenes.world import Scene, sample_scene
from mm_align.models import LvlmProcessor

YES, NO = ("yes", "Yes", "YES", " yes", " Yes"), ("no", "No", "NO", " no", " No")


class Asked(NamedTuple):
    """A yes/no question about a scene; kind is a kind of statement, or "whole" for a whole description."""

    scene: Scene
    kind: str
    question: str
    true: bool


class Answer(NamedTuple):
    """Probabilities of the first answer token, summed over spellings, of the whole vocabulary."""

    p_yes: float
    p_no: float


def questions_of(split: str, per_kind: int, whole: int, seed: str) -> list[Asked]:
    """`per_kind` statements of each kind, half of them false, and `whole` descriptions, half of them free of errors."""
    rng, made = random.Random(f"judging-{seed}-{split}"), []
    for kind in KINDS:
        rows: list[Asked] = []
        while len(rows) < per_kind:
            scene = sample_scene(rng, split)
            rows += [Asked(scene, kind, asked(s, rng), s.true) for s in pair(scene, kind, rng)]
        made += rows[:per_kind]
    for _ in range(whole):
        scene = sample_scene(rng, split)
        rating = rated(scene, rng)
        made.append(Asked(scene, "whole", FREE_OF_ERRORS[0].format(d=rating.text), not rating.errors))
    return made


@torch.inference_mode()
def answers(model: nn.Module, processor: LvlmProcessor, made: Sequence[Asked], batch: int = 64) -> list[Answer]:
    """By one pass over right-padded prompts, long ones apart from short ones."""
    image = [processor.image_token_id] * processor.num_image_tokens + processor.text_ids("\n")
    rows = [image + processor.text_ids(m.question) for m in made]
    yes, no = ([i for i in {tuple(processor.text_ids(s)) for s in words} if len(i) == 1] for words in (YES, NO))
    found: dict[int, Answer] = {}
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        length = max(len(rows[k]) for k in part)
        ids = torch.tensor([rows[k] + [processor.tokenizer.pad_token_id] * (length - len(rows[k])) for k in part])
        last = torch.zeros(ids.shape, dtype=torch.bool)
        last[torch.arange(len(part)), torch.tensor([len(rows[k]) - 1 for k in part])] = True
        pixels = torch.from_numpy(processor.image_processor.pixels([render(made[k].scene) for k in part]))
        p = model(input_ids=ids, pixel_values=pixels, logits_to_keep=last, use_cache=False).logits.softmax(-1)
        p_yes, p_no = (p[:, [i[0] for i in ids_]].sum(-1).tolist() for ids_ in (yes, no))
        found |= {k: Answer(y, n) for k, y, n in zip(part, p_yes, p_no, strict=True)}
    return [found[k] for k in range(len(rows))]


def balanced_accuracy(made: Sequence[Asked], found: Sequence[Answer]) -> float:
    """Mean of the shares of true ones accepted and of false ones rejected; rejected iff p_no >= p_yes."""
    accepted = [a.p_yes > a.p_no for a in found]
    shares = [np.mean([yes == m.true for m, yes in zip(made, accepted, strict=True) if m.true == truth]) for truth in (True, False)]
    return round(float(np.mean(shares)), 4)


def by_kind(made: Sequence[Asked], found: Sequence[Answer]) -> dict[str, float]:
    """Balanced accuracy of each kind, and of all statements together (without whole descriptions)."""
    groups: Mapping[str, list[tuple[Asked, Answer]]] = defaultdict(list)
    for m, a in zip(made, found, strict=True):
        groups[m.kind].append((m, a))
        if m.kind != "whole":
            groups["statements"].append((m, a))
    return {kind: balanced_accuracy(*zip(*rows, strict=True)) for kind, rows in groups.items()}


def calibration_error(made: Sequence[Asked], found: Sequence[Answer], bins: int = 10) -> float:
    """ECE of p_yes / (p_yes + p_no) in bins of equal width [Guo et al. 2017]: mean |share that is true - mean probability|."""
    p = np.array([a.p_yes / (a.p_yes + a.p_no) for a in found])
    true = np.array([m.true for m in made], float)
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [(which == b).mean() * abs(true[which == b].mean() - p[which == b].mean()) for b in range(bins) if (which == b).any()]
    return round(float(sum(gaps)), 4)


def judging_curve(model: nn.Module, processor: LvlmProcessor) -> dict[str, Any]:
    """Balanced accuracy by kind on validation scenes."""
    made = questions_of("validation", 60, 120, "curve")
    return {"accuracy": by_kind(made, answers(model, processor, made))}
