"""NLTK's `pos_tag` (averaged perceptron, Honnibal 2013) without NLTK, over the same weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from .tables import text


class Perceptron(NamedTuple):
    """weights: of each feature by tag. sure: the tag of words that have but one. classes: from the last in the alphabet. rows: weights of
    the features that were met, one number a class."""

    weights: dict[str, dict[str, float]]
    sure: dict[str, str]
    classes: tuple[str, ...]
    rows: dict[str, np.ndarray]


def pos_tag(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Each token with its Penn Treebank tag, as `nltk.pos_tag(tokens)` gives them. TypeError for one text."""
    if isinstance(tokens, str):
        raise TypeError("pos_tag takes a list of tokens, not a text")
    model = _model()
    context = ["-START-", "-START2-", *map(_normal, tokens), "-END-", "-END2-"]
    before, last = "-START2-", "-START-"  # the tags of the two words before; NLTK begins in this order
    tagged = []
    for at, token in enumerate(tokens):
        tag = model.sure.get(token) or _best(model, _features(token, context[at : at + 5], last, before))
        tagged.append((token, tag))
        last, before = tag, last
    return tagged


def _normal(word: str) -> str:
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word.isdigit() and len(word) == 4:
        return "!YEAR"
    if word and word[0].isdigit():
        return "!DIGITS"
    return word.lower()


def _features(token: str, around: Sequence[str], last: str, before: str) -> tuple[str, ...]:
    """What the tagger looks at, in NLTK's order: sums of floats depend on it. around: the five normalised words about the token."""
    far, left, word, right, beyond = around
    return (
        "bias",
        f"i suffix {token[-3:]}",
        f"i pref1 {token[:1]}",
        f"i-1 tag {last}",
        f"i-2 tag {before}",
        f"i tag+i-2 tag {last} {before}",
        f"i word {word}",
        f"i-1 tag+i word {last} {word}",
        f"i-1 word {left}",
        f"i-1 suffix {left[-3:]}",
        f"i-2 word {far}",
        f"i+1 word {right}",
        f"i+1 suffix {right[-3:]}",
        f"i+2 word {beyond}",
    )


def _best(model: Perceptron, features: Sequence[str]) -> str:
    """The tag of the highest sum, of equal ones the last in the alphabet. Adding one feature after the other keeps NLTK's rounding."""
    scores = np.zeros(len(model.classes))
    for feature in features:
        if (row := model.rows.get(feature)) is None:
            if feature not in model.weights:
                continue
            row = model.rows[feature] = np.array([model.weights[feature].get(tag, 0.0) for tag in model.classes])
        np.add(scores, row, scores)
    return model.classes[scores.argmax()]


@cache
def _model() -> Perceptron:
    weights, sure, classes = (json.loads(text(f"tagger/{name}.json")) for name in ("weights", "tagdict", "classes"))
    return Perceptron(weights, sure, tuple(sorted(classes, reverse=True)), {})
