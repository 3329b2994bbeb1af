"""How three evaluators count the answers of Video-MME, and the names that they count by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .extraction import PREFIXES, REFUSED, lmms_eval_letter, video_mme_letter, vlmevalkit_choice

DURATIONS = ("short", "medium", "long")
DOMAINS = ("Knowledge", "Film & Television", "Sports Competition", "Artistic Performance", "Life Record", "Multilingual")
SUB_CATEGORIES = (
    "Humanity & History", "Literature & Art", "Biology & Medicine", "Finance & Commerce", "Astronomy", "Geography", "Law", "Life Tip",
    "Technology", "Animation", "Movie & TV Show", "Documentary", "News Report", "Esports", "Basketball", "Football", "Athletics",
    "Other Sports", "Stage Play", "Magic Show", "Variety Show", "Acrobatics", "Handicraft", "Food", "Fashion", "Daily Life", "Travel",
    "Pet & Animal", "Exercise", "Multilingual",
)  # fmt: skip
TASKS = (
    "Temporal Perception", "Spatial Perception", "Attribute Perception", "Action Recognition", "Object Recognition", "OCR Problems",
    "Counting Problem", "Temporal Reasoning", "Spatial Reasoning", "Action Reasoning", "Object Reasoning", "Information Synopsis",
)  # fmt: skip
SECTIONS = {"domain": DOMAINS, "sub_category": SUB_CATEGORIES, "task_type": TASKS}
TITLES = ("Video Categories", "Video Sub Categories", "Task Categories")
THIN, THICK = "-" * 37, "=" * 37


class Asked(NamedTuple):
    """One answered question: its row (the video's), its names in every section and its duration, the truth and what was said."""

    row: int
    key: str
    names: Mapping[str, str]
    truth: str
    said: Any
    fields: Mapping[str, Any]


class Found(NamedTuple):
    """An evaluator's figures, whether each question that it counts is right, and the letter it found in each ("-" for none)."""

    results: dict[str, Any]
    right: list[tuple[Asked, bool]]
    extracted: str
    raw: Mapping[str, Any]
    printed: tuple[str, ...] = ()


def official(asked: Sequence[Asked], durations: Sequence[str], flags: list[str]) -> Found:
    """Percentages with one decimal by duration and over all; an answer without a letter leaves the denominator."""
    letters = [video_mme_letter(_text(one)) for one in asked]
    right = [(one, letter == one.truth) for one, letter in zip(asked, letters, strict=True) if letter]
    if len(right) < len(asked):
        flags.append(f"{len(asked) - len(right)} of {len(asked)} answers hold no letter; they leave the denominator, as upstream does")
    results, raw = {}, {}
    for duration in durations:
        of = [(one, hit) for one, hit in right if one.names["duration"] == duration]
        results[f"video Type: {duration}"] = _percentages(of, TITLES)
        questions = sum(one.names["duration"] == duration for one in asked)
        raw[duration] = {"questions": questions, "answered": len(of), "correct": sum(hit for _, hit in of)}
    results["the entire dataset"] = _percentages(right, ("Video Domains", *TITLES[1:]))
    return Found(results, right, "".join(letter or "-" for letter in letters), raw, tuple(_printed(results)))


def _percentages(right: Sequence[tuple[Asked, bool]], titles: Sequence[str]) -> dict[str, dict[str, float]]:
    """By section, as printed: 0 where nothing is answered."""
    answered = Counter(place for one, _ in right for place in one.names.items())
    correct = Counter(place for one, hit in right if hit for place in one.names.items())
    found = {}
    for title, (section, names) in zip(titles, SECTIONS.items(), strict=True):
        found[title] = {name: _percent(correct[section, name], answered[section, name]) for name in names}
    return {**found, "Overall Performance": {"Overall": _percent(sum(hit for _, hit in right), len(right))}}


def _percent(correct: int, answered: int) -> float:
    return float(f"{100 * correct / answered:.1f}") if answered else 0.0


def _printed(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """What upstream prints when it is asked for all sections."""
    for title, sections in results.items():
        yield from (THICK, f"Evaluation on {title}", THICK)
        for section, figures in sections.items():
            yield from (THIN, section, THIN)
            yield from (f"{name}: {value: .1f}%" for name, value in figures.items())
        yield from ("", "") if title.startswith("video Type") else ()


def lmms_eval(asked: Sequence[Asked], durations: Sequence[str], flags: list[str]) -> Found:
    """One percentage over all questions; an answer without a letter is wrong."""
    letters = [lmms_eval_letter(_text(one), "ABCD") for one in asked]
    right = [(one, letter == one.truth) for one, letter in zip(asked, letters, strict=True)]
    score = 100 * sum(hit for _, hit in right) / len(right) if right else 0.0
    results = {"videomme_perception_score": score, "lmms_eval_overall_percent": score}  # its metric, and what it logs as overall
    return Found(results, right, "".join(letter or "-" for letter in letters), {}, tuple(_logged(right)))


def _logged(right: Sequence[tuple[Asked, bool]]) -> Iterator[str]:
    """lmms-eval's lines. It looks for a name anywhere in the joined names of a question, so "Multilingual" is a domain or a part."""
    places: dict[str, list[bool]] = {}
    for one, hit in right:
        places.setdefault("_".join(one.names[section] for section in ("duration", *SECTIONS)), []).append(hit)
    heads = ("video Type", "Categories", "Video Sub Categories", "Task Categories")
    for head, names in zip(heads, (DURATIONS, *SECTIONS.values()), strict=True):
        for name in names:
            hits = [hit for place, of in places.items() if name in place for hit in of]
            yield f"Evaluation on {head}: {name}: {100 * sum(hits) / len(hits) if hits else 0: .1f}%"
    yield f"Overall Performance: {100 * sum(hit for _, hit in right) / len(right) if right else 0: .1f}%"


def vlmevalkit(asked: Sequence[Asked], durations: Sequence[str], flags: list[str]) -> Found:
    """Shares with three decimals by duration and over all, None where there is no question; an answer without a letter is looked up
    among the options that follow the question in its own text, and else wrong, as no judge is asked."""
    letters = [_letter_or_option(one) for one in asked]
    right = [(one, letter == one.truth) for one, letter in zip(asked, letters, strict=True)]
    results = {}
    for duration in (*DURATIONS, "overall"):
        of = [(one, hit) for one, hit in right if duration in (one.names["duration"], "overall")]
        parts = {
            section: {name: _share(hit for one, hit in of if one.names[section] == name) for name in names}
            for section, names in SECTIONS.items()
        }
        results[duration] = {"overall": _share(hit for _, hit in of), **parts}
    return Found(results, right, "".join("-" if letter == REFUSED else letter for letter in letters), {})


def _letter_or_option(asked: Asked) -> str:
    said = str(asked.said)
    if letter := video_mme_letter(said, PREFIXES):
        return letter
    options: dict[str, str] = {}
    for letter, line in zip("ABCDEFGH", str(asked.fields.get("question", "")).split("\n")[1:], strict=False):
        if f"{letter}." in line:
            options[letter] = line.partition(f"{letter}.")[2].strip(". \n")
    return vlmevalkit_choice(said, options) or REFUSED


def _share(hits: Iterable[bool]) -> float | None:
    of = list(hits)
    return float(f"{sum(of) / len(of):.3f}") if of else None


RULES: dict[str, Callable[[Sequence[Asked], Sequence[str], list[str]], Found]] = {
    "official": official,
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}
OVERALL = {
    "official": ("the entire dataset.Overall Performance.Overall", 100.0),
    "lmms-eval": ("videomme_perception_score", 100.0),
    "vlmevalkit": ("overall.overall", 1.0),
}


def _text(asked: Asked) -> str:
    """ValueError for a response that is no text, where the scripts stop."""
    if not isinstance(asked.said, str):
        raise ValueError(f"row {asked.row}: the response to {asked.key!r} is {asked.said!r}; expected a text (an empty one has no letter)")
    return asked.said
