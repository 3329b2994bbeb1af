"""How three evaluators read the answers of MME and what they count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .extraction import vlmevalkit_yes_no

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
HALLUCINATION = ("existence", "count", "position", "color")
GROUPS = {
    "perception": PERCEPTION,
    "cognition": COGNITION,
    "hallucination_subset_existence_count_position_color": HALLUCINATION,
}
HALLUCINATION_TOTAL = "hallucination_subset_existence_count_position_color"


class Asked(NamedTuple):
    """One answered question: its row, its sample, the task, the image that pairs it with another, the truth, and what was said."""

    row: int
    sample: str
    task: str
    image: str
    truth: str
    said: Any


class Found(NamedTuple):
    """An evaluator's figures, and whether each of the questions it counts is right."""

    results: dict[str, Any]
    right: list[tuple[Asked, bool]]
    raw: dict[str, Any]
    printed: tuple[str, ...] = ()


def first_four(text: str) -> str:
    """The official reading: yes or no if it occurs in the first four characters (yes first), else other. Blanks count."""
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def lmms_eval_reading(text: str) -> str:
    """The official reading of the stripped text without full stops, and y and n alone."""
    bare = text.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(bare) or first_four(bare)


def official(asked: Sequence[Asked], tasks: Sequence[str], flags: list[str]) -> Found:
    """mPLUG-Owl's calculation: every task of `tasks` has to be there, and two questions an image."""
    of = by_task(asked)
    read = {task: [(one, yes_or_no(one), first_four(text_of(one))) for one in of[task]] for task in _present(tasks, of)}
    details = {task: _details(task, rows, flags) for task, rows in read.items()}
    scores = {task: one["acc"] * 100 + one["acc_plus"] * 100 for task, one in details.items()}
    totals = {name: sum(scores[task] for task in group) for name, group in GROUPS.items() if set(group) <= set(scores)}
    titled = {f"{kind}-{task}": scores[task] for kind, group in KINDS.items() for task in group if task in scores}
    right = [(one, truth == said) for rows in read.values() for one, truth, said in rows]
    raw = {"detail": details, "detail_hallucination_subset": {task: details[task] for task in HALLUCINATION if task in details}}
    return Found({**titled, "totals": totals}, right, raw, tuple(_printed(scores)))


KINDS = {"Perception": PERCEPTION, "Cognition": COGNITION}


def _details(task: str, rows: Sequence[tuple[Asked, str, str]], flags: list[str]) -> dict[str, float]:
    """Counts and rates of one task. yes is positive; precision and recall are of the answers that are yes or no, 0 for none."""
    pairs = [(truth, said) for _, truth, said in rows]
    tp, fn, tn, fp = (pairs.count(pair) for pair in (("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "yes")))
    if not tp + fn + tn + fp:
        flags.append(f"{task}: no answer is yes or no; scikit-learn refuses the empty lists that upstream hands it, guarded as 0.0")
    images = by_image(one for one, _, _ in rows)
    for image, two in images.items():
        if len(two) != 2:
            raise ValueError(f"row {two[-1].row}: image '{image}' of {task} has {len(two)} answers; upstream asserts two")
    right = {one.row: truth == said for one, truth, said in rows}
    return {
        "TP": tp,
        "FN": fn,
        "TN": tn,
        "FP": fp,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "other_num": len(pairs) - tp - fn - tn - fp,
        "acc": sum(right.values()) / len(rows),
        "acc_plus": sum(all(right[one.row] for one in two) for two in images.values()) / len(images),
    }


def _printed(scores: Mapping[str, float]) -> Iterable[str]:
    for kind, group in KINDS.items():
        shown = {task: scores[task] for task in group if task in scores}
        yield f"=========== {kind} ==========="
        yield from (f"total score: {sum(shown.values())} ", "")
        yield from (f"\t {task}  score: {score}" for task, score in shown.items())
        yield from ("", "")


def lmms_eval(asked: Sequence[Asked], tasks: Sequence[str], flags: list[str]) -> Found:
    """lmms-eval's sums of the tasks that are there, in two kinds; a task that it does not know belongs to cognition."""
    read = [(one, yes_or_no(one, trimmed=True), lmms_eval_reading(text_of(one))) for one in asked]
    right = {one.row: truth == said for one, truth, said in read}
    per_category = {task: _mean_of_images(task, rows, right) for task, rows in by_task(asked).items()}
    results = {
        "mme_perception_score": sum(score for task, score in per_category.items() if task in PERCEPTION),
        "mme_cognition_score": sum(score for task, score in per_category.items() if task not in PERCEPTION),
        "per_category": per_category,
    }
    flags += [f"{task} is not there; the sum is of the others" for task in tasks if task not in per_category]
    return Found(results, [(one, right[one.row]) for one in asked], {})


def _mean_of_images(task: str, rows: Sequence[Asked], right: Mapping[int, bool]) -> float:
    images = by_image(rows)
    for image, two in images.items():
        if len(two) != 2:
            raise ValueError(f"row {two[-1].row}: image '{image}' of {task} has {len(two)} answers; lmms-eval asserts two")
    hits = [sum(right[one.row] for one in two) for two in images.values()]
    return sum(100.0 * (hit == 2) + hit / 2 * 100.0 for hit in hits) / len(hits)


def vlmevalkit(asked: Sequence[Asked], tasks: Sequence[str], flags: list[str]) -> Found:
    """VLMEvalKit's: words yes and no; the first two answers about an image make its pair, all of them its accuracy."""
    right = {one.row: vlmevalkit_yes_no(str(one.said)) == one.truth.capitalize() for one in asked}
    of = by_task(asked)
    scores = {}
    for task in dict.fromkeys((*_present(tasks, of), *of)):
        images = by_image(of[task])
        alone = next((two[0] for two in images.values() if len(two) < 2), None)
        if alone is not None:
            raise ValueError(f"row {alone.row}: image '{alone.image}' of {task} has one answer; VLMEvalKit stops without the second")
        pairs = sum(right[two[0].row] and right[two[1].row] for two in images.values())
        scores[task] = sum(right[one.row] for one in of[task]) / len(of[task]) * 100 + pairs / len(images) * 100
    totals = {"perception": sorted(PERCEPTION), "reasoning": sorted(COGNITION)}  # summed in the order of its lists
    summed = {name: sum(scores[task] for task in group) for name, group in totals.items() if set(group) <= set(scores)}
    return Found({**summed, **{task: scores[task] for task in of}}, [(one, right[one.row]) for one in asked], {})


RULES: dict[str, Callable[[Sequence[Asked], Sequence[str], list[str]], Found]] = {
    "official": official,
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}


# -- rows --------------------------------------------------------------------------------------------------------------


def by_task(asked: Iterable[Asked]) -> dict[str, list[Asked]]:
    """Questions by task, in order of appearance."""
    found: dict[str, list[Asked]] = {}
    for one in asked:
        found.setdefault(one.task, []).append(one)
    return found


def by_image(asked: Iterable[Asked]) -> dict[str, list[Asked]]:
    """Questions by image, in order of appearance."""
    found: dict[str, list[Asked]] = {}
    for one in asked:
        found.setdefault(one.image, []).append(one)
    return found


def _present(tasks: Sequence[str], of: Mapping[str, Any]) -> Sequence[str]:
    if missing := [task for task in tasks if task not in of]:
        told = f"there are no answers for {', '.join(missing)}, where upstream stops"
        raise ValueError(f"{told}; name what is to be scored with the option `subset` (hallucination, perception, cognition, or tasks)")
    return tasks


def yes_or_no(asked: Asked, *, trimmed: bool = False) -> str:
    """The truth in small letters. ValueError for one that is neither."""
    truth = asked.truth.lower()
    truth = truth.strip().replace(".", "") if trimmed else truth
    if truth not in ("yes", "no"):
        raise ValueError(f"row {asked.row}: the annotation is {asked.truth!r}; expected yes or no")
    return truth


def text_of(asked: Asked) -> str:
    """ValueError for an answer that is no text, where upstream stops."""
    if not isinstance(asked.said, str):
        raise ValueError(f"row {asked.row}: the answer is {asked.said!r}; expected a text (an empty one is neither yes nor no)")
    return asked.said
