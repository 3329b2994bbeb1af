"""The card of tiny-aitqe, and what all cards of the zoo share: the plan, the learning curve, the weights' hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from math import prod
from pathlib import Path

from safetensors import safe_open

from .plan import AITQE, Part

CARD = """---
license: apache-2.0
library_name: mm-align
pipeline_tag: image-text-to-text
---
# {name}: AITQE at toy size. It knows only SceneWorld

A SigLIP tower, a two-layer MLP and a Qwen2 decoder ({parameters:.2f} M parameters, float16) that answers AITQE's question
about a picture and its caption: scores, explanations and, first, a rewrite where the caption is poor. **Its scores mean
nothing on any picture that SceneWorld did not draw.** It exists so that `mmalign enhance-data` can be seen and tested
offline; for real data choose a real model (`--model HymanH/AITQE`, or any image-text model).

## Data and training
SceneWorld version {version}, split `train`, drawn on the fly; half of the captions poor. Trained from random weights on one CPU core by
`scripts/build_zoo.py` (seeded; the recipe is this toolkit's own, AITQE's is not published):

{stages}

Two throw-away heads helped while training (what lies in each cell; which word is wrong) and are not in the file. What comes after
`decide` was chosen by watching the validation curve below; held-out scenes were measured once, at the end
(the answers of an interim model to 64 of them were read by eye). In the shipped run `eyes` had
five decoder layers, none of which that stage trains, and four went on: a run of the script as it is repeats the recipe, not the bits.

## SceneWorld: measured on held-out scenes (`scripts/proving/{proof} --card`)
Held-out scenes share no content with training and never show the habitual pairs of objects. Rows: {data}.

| what | this model | with a grey picture | goal |
|---|---|---|---|
| AUROC of keep/rewrite, all kinds that need the picture | {seen:.3f} | {blind:.3f} | >= 0.95, blind <= 0.60 |
| accuracy of keep/rewrite on the same rows | {accuracy:.3f} | | |
| answers that are valid JSON | {json:.1%} | | >= 99 % |
| rank correlation of the overall score with the damage's severity | {spearman:.3f} | | >= 0.8 |
| objects with all stated attributes, F1: raw captions of rewritten rows | {raw_f1:.3f} | | |
| ... of the rewrites | {new_f1:.3f} | | >= 0.90 |
| rewrites that name an object which is not there | {hallucinating:.1%} (raw {raw_hallucinating:.1%}) | | <= 8 % |

| AUROC by kind (SceneWorld) | with the picture | grey |
|---|---|---|
{kinds}

## SceneWorld: learning curve (validation scenes, AUROC of keep/rewrite)
| stage, step | all that need the picture | {short_kinds} |
|---|---|{rules}|
{curve}
"""
SHOWN = ("wrong_object", "wrong_color", "wrong_count", "wrong_relation", "missing_detail", "other_image")


def write_card(folder: Path, figures: dict, log: Path) -> None:
    """README.md and figures.json in the model's folder; the learning curve is read from the training log."""
    decision, answer = figures["decision"], figures["answer"]
    curve = [
        f"| {e['part']}, {e['step']} | " + " | ".join(f"{e['auroc'][k]:.3f}" for k in ("needs_image", *SHOWN)) + " |"
        for e in watched(log, folder, "auroc")
    ]
    kinds = [f"| {kind} | {value:.3f} | {decision['auroc_blind'][kind]:.3f} |" for kind, value in decision["auroc"].items()]
    card = CARD.format(
        name=folder.name, proof="tiny_aitqe.py", parameters=parameters(folder) / 1e6, version=figures["sceneworld"],
        stages=stages(AITQE, "captions"),
        data=figures["data"], seen=decision["auroc"]["needs_image"], blind=decision["auroc_blind"]["needs_image"],
        accuracy=decision["accuracy"], json=answer["valid_json"], spearman=answer["severity_spearman"], raw_f1=answer["raw_f1"],
        new_f1=answer["rewrite_f1"], hallucinating=answer["rewrite_hallucinating"], raw_hallucinating=answer["raw_hallucinating"],
        kinds="\n".join(kinds), short_kinds=" | ".join(SHOWN), rules="|".join("---" for _ in SHOWN), curve="\n".join(curve),
    )  # fmt: skip
    write(folder, card, figures)


def write(folder: Path, card: str, figures: dict) -> None:
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def stages(parts: Iterable[Part], what: str) -> str:
    """The training plan as lines of the card."""
    return "\n".join(
        f"- `{p.name}`: {p.steps} steps of {p.pictures} pictures x {p.captions or 'no'} {what}, learning rate {p.lr:g}" for p in parts
    )


def watched(log: Path, folder: Path, mark: str) -> list[dict]:
    """The training log's entries that hold `mark`; they are kept beside the card, for when the log is gone."""
    kept = folder / "learning_curve.jsonl"
    if log.is_file():
        entries = [line for line in log.read_text(encoding="utf-8").splitlines() if f'"{mark}"' in line]
        kept.write_text("".join(f"{line}\n" for line in entries), encoding="utf-8")
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]


def sha256(folder: Path) -> str:
    """Of the weights' file: what freezes the model."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def parameters(folder: Path) -> int:
    """How many numbers the weights' file holds."""
    with safe_open(folder / "model.safetensors", "np") as file:
        return sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - not a mapping
