"""AMBER's rules: which nouns of a description are there, which were imagined, and the counters that every figure is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .similarity import Similar

START = 0.001  # of every denominator, in upstream's metrics.txt
NEAR = 0.8

# upstream's prefixes of counters, by the type of an annotation; every other type of question is "asso"
PREFIXES = {
    "generative": "g",
    "discriminative-attribute-state": "as",
    "discriminative-attribute-number": "an",
    "discriminative-attribute-action": "aa",
    "discriminative-hallucination": "ha",
}
GENERATIVE = "Generative Task"
ALL_QUESTIONS = "Descriminative Task"
# headings as upstream prints (and spells) them: the prefixes that are pooled
HEADINGS = {
    ALL_QUESTIONS: ("qa",),
    "Exsitence": ("ha",),
    "Attribute": ("as", "an", "aa"),
    "State": ("as",),
    "Number": ("an",),
    "Action": ("aa",),
    "Relation": ("asso",),
}
CAPTION_COUNTS = {"CHAIR": "chair", "Cover": "safe_cover", "Hal": "non_hallu", "Cog": "hallu_cover"}
ANSWER_COUNTS = {"Accuracy": "qa_correct", "Precision": "qa_ans_no", "Recall": "qa_no"}


class Words(NamedTuple):
    """objects: what counts as an object. related: of an annotated word, its related ones. safe: counted, and never hallucinated.
    near: similarity of two words, None for string equality."""

    objects: frozenset[str]
    related: Mapping[str, Sequence[str]]
    safe: frozenset[str]
    near: Similar | None


class Caption(NamedTuple):
    """Of one description. mentions: its nouns that are objects. hallucinated: those that are not in the picture. covered: places of
    the annotated objects that were named. imagined: places of the likely hallucinations that were named."""

    mentions: int
    hallucinated: int
    covered: frozenset[int]
    imagined: frozenset[int]


def prefix_of(annotation: Mapping[str, Any]) -> str:
    return PREFIXES.get(str(annotation["type"]), "asso")


# -- descriptions ------------------------------------------------------------------------------------------------------


def nouns_of(text: str) -> list[str]:
    """Singular nouns of a text, in its letter case; repetitions included."""
    from .language import lemma, pos_tag, word_tokenize

    return [lemma(word) for word, tag in pos_tag(word_tokenize(text)) if tag.startswith("NN")]


def read_nouns(nouns: Sequence[str], truth: Sequence[str], hallu: Sequence[str], words: Words) -> Caption:
    """What upstream makes of a description's nouns.

    A noun that is a true object or related to one covers it. Any other marks the likely hallucination that it equals, and the first
    one that it is near to; it is hallucinated unless it is near to a true object, which it then covers. So a word near to both
    counts for both.
    """
    there, likely = _entries(truth, words), _entries(hallu, words)
    kept = [noun for noun in nouns if noun in words.objects]
    covered: set[int] = set()
    imagined: set[int] = set()
    hallucinated = 0
    for noun in kept:
        if noun in words.safe:
            continue
        if (place := _equal(noun, there)) is not None:
            covered.add(place)
            continue
        imagined.update(place for place in (_equal(noun, likely), _near(noun, likely, words)) if place is not None)
        if (place := _near(noun, there, words)) is not None:
            covered.add(place)
        else:
            hallucinated += 1
    return Caption(len(kept), hallucinated, frozenset(covered), frozenset(imagined))


def _entries(objects: Sequence[str], words: Words) -> list[tuple[str, int]]:
    """(word, place of its object): the related words of all objects first, then the objects."""
    related = [(word, place) for place, name in enumerate(objects) for word in words.related.get(name, ())]
    return related + [(name, place) for place, name in enumerate(objects)]


def _equal(noun: str, entries: Sequence[tuple[str, int]]) -> int | None:
    return next((place for word, place in entries if word == noun), None)


def _near(noun: str, entries: Sequence[tuple[str, int]], words: Words) -> int | None:
    if words.near is None:
        return _equal(noun, entries)
    return next((place for word, place in entries if words.near(noun, word) > NEAR), None)


# -- counters ----------------------------------------------------------------------------------------------------------


def new_counters() -> dict[str, float]:
    """Upstream's counters under its names, and what they start at."""
    names = ["chair", "safe_cover", "hallu_cover", "non_hallu"]
    for part in ("", "as_", "an_", "aa_", "asso_", "ha_"):
        names += [f"{part}{count}" for count in ANSWER_COUNTS.values()]
    return {f"{name}{end}": start for name in names for end, start in (("_score", 0), ("_num", START))}


def add_caption(counters: dict[str, float], caption: Caption, annotation: Mapping[str, Any]) -> None:
    counts = {
        "chair": (caption.hallucinated, caption.mentions),
        "safe_cover": (len(caption.covered), len(annotation["truth"])),
        "hallu_cover": (len(caption.imagined), len(annotation["hallu"])),
        "non_hallu": (int(not caption.hallucinated), 1),
    }
    for name, (score, number) in counts.items():
        counters[f"{name}_score"] += score
        counters[f"{name}_num"] += number


def add_answer(counters: dict[str, float], said: str | None, annotation: Mapping[str, Any]) -> None:
    """said: yes, no, or None for neither. No is the positive class."""
    truth, right = annotation["truth"], said == annotation["truth"]
    for part in ("", f"{prefix_of(annotation)}_"):
        for count, asked in (("qa_correct", True), ("qa_no", truth != "yes"), ("qa_ans_no", said == "no")):
            counters[f"{part}{count}_num"] += asked
            counters[f"{part}{count}_score"] += asked and right


# -- figures -----------------------------------------------------------------------------------------------------------


def figures_of(counters: Mapping[str, float], heading: str) -> dict[str, float]:
    """The figures below one heading, each rounded to 0.1; F1 is of the rounded ones, with the small number that upstream adds."""
    if heading == GENERATIVE:
        found = {name: counters[f"{count}_score"] / counters[f"{count}_num"] * 100 for name, count in CAPTION_COUNTS.items()}
        found["Hal"] = 100 - found["Hal"]
        return {name: round(value, 1) for name, value in found.items()}
    parts = ["" if prefix == "qa" else f"{prefix}_" for prefix in HEADINGS[heading]]
    found = {
        name: round(
            sum(counters[f"{part}{count}_score"] for part in parts) / sum(counters[f"{part}{count}_num"] for part in parts) * 100, 1
        )
        for name, count in ANSWER_COUNTS.items()
    }
    precision, recall = found["Precision"] / 100, found["Recall"] / 100
    guard = 0.001 if heading == "Exsitence" else 0.0001
    return {**found, "F1": round(2 * precision * recall / (precision + recall + guard) * 100, 1)}


def printed(results: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """The lines of upstream's script, which ends every part but the last with a blank and an empty line."""
    for heading, below in results.items():
        lines = [f"{name}:{tabs(name)} {value}" for name, value in below.items()]
        yield from (f"{heading}:", *lines) if heading == "Relation" else (f"{heading}:", *lines[:-1], f"{lines[-1]} ", "")


def tabs(name: str) -> str:
    return "\t" if len(name) > 6 else "\t\t"
