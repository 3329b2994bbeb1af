"""SceneWorld rows: a picture, a web-like caption and, under `sceneworld`, the whole truth."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..records import Image, Sample, Source
from .captions import detailed_caption, good_caption, short_caption
from .corrupt import Poor, corrupt
from .questions import distractors, questions
from .render import boxes, render
from .spec import SPEC, weighted
from .world import Scene, sample_scene


class Captioned(NamedTuple):
    """A scene with a caption as the web might give it; `kind` is "good" or a corruption."""

    scene: Scene
    text: str
    kind: str
    severity: float


def captioned_scene(rng: random.Random, split: str, poor_share: float = SPEC["poor_share"]) -> Captioned:
    """Draw the kind first, then a scene that has room for it, so that the shares of the spec hold exactly in expectation."""
    if rng.random() >= poor_share:
        scene = sample_scene(rng, split)
        return Captioned(scene, good_caption(scene, rng), "good", 0.0)
    kind = weighted(rng, {k: v["share"] for k, v in SPEC["corruptions"].items()})
    while True:
        scene = sample_scene(rng, split)
        poor: Poor | None = corrupt(scene, kind, rng)
        if poor is not None:
            return Captioned(scene, poor.text, kind, poor.severity)


def make_row(seed: int, split: str, index: int, poor_share: float = SPEC["poor_share"]) -> tuple[dict[str, Any], Captioned]:
    """Row `index` of (seed, split) without its picture, and what it was made of; any row can be made alone."""
    rng = random.Random(f"sceneworld-{SPEC['version']}-{seed}-{split}-{index}")
    made = captioned_scene(rng, split, poor_share)
    scene = made.scene
    truth = {
        "version": SPEC["version"],
        "split": split,
        "kind": made.kind,
        "severity": made.severity,
        "needs_image": bool(made.kind != "good" and SPEC["corruptions"][made.kind]["needs_image"]),
        "scene": scene.to_dict(),
        "boxes": boxes(scene),
        "captions": [good_caption(scene, rng) for _ in range(3)],
        "short": short_caption(scene),
        "detailed": detailed_caption(scene),
        "distractors": [" ".join(pair) for pair in distractors(scene, rng)],
        "questions": questions(scene, rng),
    }
    return {"id": f"sw{SPEC['version']}-{split}-{seed}-{index:07d}", "caption": made.text, "sceneworld": truth}, made


def scene_rows(n: int, seed: int = 0, split: str = "train", poor_share: float = SPEC["poor_share"]) -> Iterator[Sample]:
    """`n` samples with PNG pictures, streaming."""
    for index in range(n):
        row, made = make_row(seed, split, index, poor_share)
        name = f"{row['id']}.png"
        objects = [f"{item.color} {item.shape}" for item in made.scene.items]  # two alike are listed twice
        meta = {"id": row["id"], "image": name, "caption": row["caption"], "objects": objects, "sceneworld": row["sceneworld"]}
        source = Source(f"sceneworld-{split}", index, "jsonl", "caption", ("image",), "id")
        yield Sample(row["id"], (), (Image(path=name, data=png(made.scene)),), row["caption"], source, meta)


def png(scene: Scene) -> bytes:
    """The scene's picture as PNG bytes."""
    buffer = io.BytesIO()
    render(scene).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
