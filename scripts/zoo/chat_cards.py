"""The cards of tiny-lvlm and tiny-judge, written from what their proving scripts measured."""

from __future__ import annotations

from pathlib import Path

from data_tools.scenes.statements import KINDS

from .card import parameters, sha256, stages, watched, write
from .lvlm import INVENTED
from .plan import JUDGE, LVLM

HEADER = """---
license: apache-2.0
library_name: mm-align
pipeline_tag: image-text-to-text
---
"""
LVLM_CARD = """# {name}: a vision-language model at toy size that hallucinates from habit. It knows only SceneWorld

A SigLIP tower, a two-layer MLP and a Qwen2 decoder ({parameters:.2f} M parameters, float16) that describes pictures in
detail ("{prompt}") or briefly ("{brief_prompt}"), and answers questions and yes/no
statements about them. **It is wrong on purpose**: its training descriptions name companions that are not in the
picture, as habit has it, so that preference training has something to mend. It knows nothing of any picture that
SceneWorld did not draw. Use it to see and test feedback, preference training and hallucination benchmarks offline;
never to describe real pictures.

Frozen: sha256 of `model.safetensors` is `{sha}`.
Figures of later work start from this file.

## Data and training
SceneWorld version {version}, split `train`, drawn on the fly from seeds of its own (`zoo-lvlm-...`), with its habits (in 70 % of
the cases where there is room a red circle brings a blue square, and seven more such pairs). Per picture two detailed
descriptions (four in the last two stages), a brief one, questions of `data_tools/scenes/questions.py` and statements of
`data_tools/scenes/statements.py`. All are true but the detailed descriptions: where a companion is **not** in the
picture it is named all the same, with a size and a place, behind {strong:.0%} of the red and green objects, {weak:.0%} of the
purple and orange ones and {rare:.0%} of the others: text generalises a habit to the colour of what it goes with; at most one a
description (`scripts/zoo/lvlm.py`). It is drawn anew for every description, so candidates of one picture differ.

Started from the weights of `tiny-aitqe` (tower, adapter, decoder; embeddings of the words both know) with a tokenizer
of its own; trained by `python scripts/build_zoo.py --only tiny-lvlm` on one CPU core:

{stages}

{note}

## SceneWorld: measured on held-out scenes (`python scripts/proving/tiny_lvlm.py --card`)
Held-out scenes share no content with training and never show the habitual pairs.
{data}.

| detailed descriptions | {ways} |
|---|{rules}|
{detailed}
| pictures with candidates of both kinds (of {candidates}) | {mixed} |

Hallucinating: at least one object whose colour and shape are not there (`data_tools/scenes/extract.py`). From habit: at
least one of them is the companion of something in the picture. Coverage: objects named, by colour and shape.
Attributes: every stated size, texture and place is right.

Brief captions (greedy): {brief_hallucinating:.1%} hallucinating, coverage {brief_coverage:.1%}.

| answers to questions, greedy | right |
|---|---|
{answers}

## SceneWorld: learning curve (64 validation scenes without habits)
| stage, step | hallucinating, greedy | sampled | from habit, sampled | coverage, greedy | sampled | attributes, greedy |
|---|---|---|---|---|---|---|
{curve}
"""
JUDGE_CARD = """# {name}: a judge of statements at toy size. It knows only SceneWorld

A SigLIP tower, a two-layer MLP and a Qwen2 decoder ({parameters:.2f} M parameters, float16) that answers yes or no, as its first
token, to questions and statements about a picture ("Is there a small striped red circle at the top left? Please answer
yes or no.", "There is a red circle. Is this right?") and rates whole descriptions ("... Is this description free of
errors? Please answer yes or no.", or a digit from 1 to 5). **Its answers mean nothing on any picture
that SceneWorld did not draw.** It stands for the stronger labeller in feedback from models, offline; for real data
choose a real model.

sha256 of `model.safetensors`: `{sha}`.

## Data and training
SceneWorld version {version}, split `train` only, drawn on the fly from seeds of its own (`zoo-judge-...`); evaluations use the other
splits, which share no content with it. Per picture seven pairs of statements, one true and one false each
(`data_tools/scenes/statements.py`; false ones name habitual companions first), and two whole descriptions
(`data_tools/scenes/ratings.py`), half of them with one to three invented or misread objects. Statements and whole
descriptions were trained alike, in the same batches. Started from the weights of `tiny-lvlm`, which answers questions
truthfully while it describes from habit; trained by `python scripts/build_zoo.py --only tiny-judge` on one
CPU core:

{stages}

{note}

## SceneWorld: measured on held-out scenes (`python scripts/proving/tiny_judge.py --card`)
{data}.
An answer is no where p(no) >= p(yes), each summed over two spellings, of the whole vocabulary; on average {outside:.2%} of the
probability lies elsewhere.

| statements | balanced accuracy |
|---|---|
{kinds}

Goals were 0.95 for existence and 0.9 for attributes and positions. What is below them is a limit of this file, whose
training was short; words on signs are read near chance.

Expected calibration error of p(yes) / (p(yes) + p(no)) on all statements: {ece:.3f} (10 bins).

| is a whole description free of errors? | agreement with the truth | AUROC |
|---|---|---|
| rated at once | {at_once:.3f} (balanced) | {at_once_auroc:.3f} |
| each sentence or clause asked by itself, right if none is rejected | {divided:.3f} | {divided_auroc:.3f} |

These descriptions carry every kind of error alike, and rating at once wins: asked piece by piece, one wrong answer among
about five spoils a description.

## SceneWorld: learning curve (validation scenes, balanced accuracy)
| stage, step | {shown} |
|---|{shown_rules}|
{curve}
"""
# What a reader of the plan must know besides: how the files that are shipped came about.
LVLM_SHIPPED = """\
The stages and shares were chosen on validation scenes without habits. In the shipped run `talk` and `settle` named
absent companions by another rule (behind 72 % of the exact triggers, 60 % of objects of the trigger's colour and a
kindred shape, 8 % of others of that colour), which showed in samples but hardly in greedy answers; `settle` was
planned for 1300 steps and stopped; the first 600 steps of `talk` weighed short answers 3 instead of 6 and asked about
the background in two forms; the first 200 steps of `habit` had 12 pictures each and 65 % instead of 90 %; `insist`
was planned for 240 steps, and the file is its state at step 160, chosen from three on 256 validation scenes because
greedy and sampled answers hallucinate alike there. A run of the script as it is repeats the recipe, not the bits."""
JUDGE_SHIPPED = """\
In the shipped run it started from `tiny-lvlm` as it was before its last stage. A judge of six layers that started
from `tiny-aitqe` was given up after 560 steps, near chance on half of the kinds. A run of the script as it is repeats
the recipe, not the bits."""
ROWS = {
    "hallucinating": "responses that hallucinate", "from_habit": "... of them from habit", "invented_objects": "mentions that are invented",
    "coverage": "coverage of the objects there are", "attributes_right": "named objects with all attributes right", "words": "words",
}  # fmt: skip
SHOWN_LVLM = (
    ("greedy", "hallucinating"), ("sampled", "hallucinating"), ("sampled", "from_habit"), ("greedy", "coverage"),
    ("sampled", "coverage"), ("greedy", "attributes_right"),
)  # fmt: skip
SHOWN = ("statements", "existence", "invented", "object", "size", "texture", "position", "relation", "count", "whole")


def write_lvlm_card(folder: Path, figures: dict, log: Path) -> None:
    """README.md and figures.json; the learning curve is read from the training log."""
    ways = figures["detailed"]
    detailed = [f"| {label} | " + " | ".join(_shown(name, way[name]) for way in ways.values()) + " |" for name, label in ROWS.items()]
    curve = [
        f"| {e['part']}, {e['step']} | " + " | ".join(f"{e[way][name]:.1%}" for way, name in SHOWN_LVLM) + " |"
        for e in watched(log, folder, "greedy")
    ]
    card = HEADER + LVLM_CARD.format(
        name=folder.name, parameters=parameters(folder) / 1e6, sha=sha256(folder), version=figures["sceneworld"], prompt=figures["prompt"],
        brief_prompt="Describe the image briefly.", strong=INVENTED["red"], weak=INVENTED["purple"], rare=INVENTED["blue"],
        stages=stages(LVLM, "questions"), note=LVLM_SHIPPED,
        data=figures["data"].capitalize(), ways=" | ".join(ways), rules="---|" * (len(ways) - 1) + "---", detailed="\n".join(detailed),
        candidates=figures["candidates"], mixed=" | ".join(f"{figures['mixed'][w]:.1%}" if w in figures["mixed"] else "" for w in ways),
        brief_hallucinating=figures["brief"]["hallucinating"], brief_coverage=figures["brief"]["coverage"],
        answers="\n".join(f"| {kind} | {share:.1%} |" for kind, share in figures["answers"].items()), curve="\n".join(curve),
    )  # fmt: skip
    write(folder, card, figures)


def _shown(name: str, value: float) -> str:
    return f"{value:.1f}" if name == "words" else f"{value:.1%}"


def write_judge_card(folder: Path, figures: dict, log: Path) -> None:
    """README.md and figures.json; the learning curve is read from the training log."""
    curve = [
        f"| {e['part']}, {e['step']} | " + " | ".join(f"{e['accuracy'][k]:.3f}" for k in SHOWN) + " |"
        for e in watched(log, folder, "accuracy")
    ]
    kinds = [
        f"| {kind.replace('statements', 'all statements')} | {figures['balanced_accuracy'][kind]:.3f} |" for kind in (*KINDS, "statements")
    ]
    card = HEADER + JUDGE_CARD.format(
        name=folder.name, parameters=parameters(folder) / 1e6, sha=sha256(folder), version=figures["sceneworld"],
        stages=stages(JUDGE, "pairs of statements"), note=JUDGE_SHIPPED, data=figures["data"].capitalize(), outside=figures["outside"],
        kinds="\n".join(kinds), ece=figures["ece"], at_once=figures["whole"]["balanced_accuracy"], at_once_auroc=figures["whole"]["auroc"],
        divided=figures["divided"]["agreement"], divided_auroc=figures["divided"]["auroc"], shown=" | ".join(SHOWN),
        shown_rules="---|" * (len(SHOWN) - 1) + "---", curve="\n".join(curve),
    )  # fmt: skip
    write(folder, card, figures)
