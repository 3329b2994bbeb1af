"""The learning curve: how well the keep/rewrite decision separates each kind of poor caption on validation scenes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from data_tools.aitqe.prompt import AITQE_TEMPLATE
from data_tools.scenes.captions import good_caption
from data_tools.scenes.corrupt import corrupt
from data_tools.scenes.render import render
from data_tools.scenes.rows import Captioned, captioned_scene
from data_tools.scenes.spec import KINDS, SPEC
from data_tools.scenes.world import sample_scene
from mm_align.models import LvlmProcessor


def drawn(split: str, per_kind: int, good: int, seed: str) -> list[Captioned]:
    """`per_kind` captions of each corruption and `good` true ones, of scenes of `split`."""
    rng = random.Random(f"watch-{seed}-{split}")
    made: list[Captioned] = []
    for kind in KINDS:
        while sum(m.kind == kind for m in made) < per_kind:
            scene = sample_scene(rng, split)
            poor = corrupt(scene, kind, rng)
            if poor is not None:
                made.append(Captioned(scene, poor.text, kind, poor.severity))
    for _ in range(good):
        scene = sample_scene(rng, split)
        made.append(Captioned(scene, good_caption(scene, rng), "good", 0.0))
    return made


def auroc(poor: Sequence[float], good: Sequence[float]) -> float:
    """The chance that a poor caption has the larger value; ties count half."""
    values = np.asarray(list(poor) + list(good))
    order = values.argsort(kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    for value in np.unique(values):
        same = values == value
        ranks[same] = ranks[same].mean()
    return float((ranks[: len(poor)].sum() - len(poor) * (len(poor) + 1) / 2) / (len(poor) * len(good)))


def by_kind(made: Sequence[Captioned], p_rewrite: Sequence[float]) -> dict[str, float]:
    """AUROC of each kind against the good captions, and of all kinds that need the picture together."""
    values = defaultdict(list)
    for m, p in zip(made, p_rewrite, strict=True):
        values[m.kind].append(p)
    good = values.pop("good")
    needing = [p for kind, ps in values.items() if SPEC["corruptions"][kind]["needs_image"] for p in ps]
    return {kind: round(auroc(ps, good), 4) for kind, ps in values.items()} | {"needs_image": round(auroc(needing, good), 4)}


@torch.inference_mode()
def rewrite_log_odds(model: nn.Module, processor: LvlmProcessor, made: Sequence[Captioned], batch: int = 64) -> list[float]:
    """log p(rewrite) - log p(keep) behind the forced `{"`, by one pass over right-padded prompts."""
    image = [processor.image_token_id] * processor.num_image_tokens + processor.text_ids("\n")
    opening, rewrite, keep = (processor.text_ids(text)[0] for text in ('{"', "Recaption", "Overall"))
    odds: list[float] = []
    for start in range(0, len(made), batch):
        part = made[start : start + batch]
        rows = [image + processor.text_ids(AITQE_TEMPLATE.replace("{caption}", m.text)) + [opening] for m in part]
        length = max(map(len, rows))
        ids = torch.tensor([row + [processor.tokenizer.pad_token_id] * (length - len(row)) for row in rows])
        last = torch.zeros(ids.shape, dtype=torch.bool)
        last[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])] = True
        pixels = torch.from_numpy(processor.image_processor.pixels([render(m.scene) for m in part]))
        logits = model(input_ids=ids, pixel_values=pixels, logits_to_keep=last, use_cache=False).logits
        odds += (logits[:, rewrite] - logits[:, keep]).tolist()
    return odds


def decision_curve(model: nn.Module, processor: LvlmProcessor) -> dict[str, Any]:
    """AUROC by kind on validation scenes."""
    made = drawn("validation", 24, 144, "curve")
    return {"auroc": by_kind(made, rewrite_log_odds(model, processor, made))}


def mixed_rows(split: str, count: int, seed: str) -> list[Captioned]:
    """Captions as `mmalign scenes make` mixes them: half good, the rest by the spec's shares."""
    rng = random.Random(f"watch-mixed-{seed}-{split}")
    return [captioned_scene(rng, split) for _ in range(count)]
