"""NLTK's `pos_tag` (averaged perceptron, Honnibal 2013) without NLTK, over the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .tables import text

if TYPE_CHECKING:
    import numpy as np

KEPT = 1 << 18


class Perceptron(NamedTuple):
    """weights: of each feature, in thousandths, as "TAG number TAG number". sure: the tag of words that have but one. classes: place of
    each tag, from the last in the alphabet, which is the order of names."""

    weights: dict[str, str]
    sure: dict[str, str]
    classes: dict[str, int]
    names: tuple[str, ...]


def pos_tag(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Each token with its Penn Treebank tag, as `nltk.pos_tag(tokens)` gives them. TypeError for one text."""
    if isinstance(tokens, str):
        raise TypeError("pos_tag takes a list of tokens, not a text")
    sure = _model().sure
    context = ["-START-", "-START2-", *map(_normal, tokens), "-END-", "-END2-"]
    before, last = "-START2-", "-START-"  # the tags of the two words before; NLTK begins in this order
    tagged = []
    for at, token in enumerate(tokens):
        tag = sure.get(token) or _best(token, (*context[at : at + 5],), last, before)
        tagged.append((token, tag))
        last, before = tag, last
    return tagged


def tags_at(tokens: Sequence[str], places: Iterable[int]) -> dict[int, str]:
    """The tags that `pos_tag(tokens)` gives at some places, in ascending order, without tagging the rest.

    A tag depends on the two tags before it, so each is worked out from the last two words before it that have but one tag.
    """
    sure = _model().sure
    found: dict[int, str] = {-2: "-START2-", -1: "-START-"}

    def known(at: int) -> str:
        return found.get(at) or sure.get(tokens[at], "")

    for place in places:
        start = place
        while not (known(start - 1) and known(start - 2)):
            start -= 1
        for at in range(start, place + 1):
            found[at] = known(at) or _best(tokens[at], _around(tokens, at), known(at - 1), known(at - 2))
    return found


def _around(tokens: Sequence[str], at: int) -> tuple[str, ...]:
    """The five normalised words about a place."""
    near = [_normal(word) for word in tokens[max(0, at - 2) : at + 3]]
    before, after = max(0, 2 - at), max(0, at + 3 - len(tokens))
    return (*("-START-", "-START2-")[2 - before :], *near, *("-END-", "-END2-")[:after])


@lru_cache(KEPT)
def _normal(word: str) -> str:
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word.isdigit() and len(word) == 4:
        return "!YEAR"
    if word and word[0].isdigit():
        return "!DIGITS"
    return word.lower()


@lru_cache(KEPT)
def _best(token: str, around: tuple[str, ...], last: str, before: str) -> str:
    """The tag of the highest sum of weights, of equal ones the last in the alphabet. around: the five normalised words about it.

    Weights have three decimals: sums of whole thousandths order tags as NLTK's sums of floats do, unless they are equal.
    """
    far, left, word, right, beyond = around
    sums = _of_token(token, word) + _of_left(left) + _of_right(right) + _of_tags(last, before)
    for feature in (f"i-2 word {far}", f"i+2 word {beyond}", f"i-1 tag+i word {last} {word}"):
        if feature in _model().weights:
            sums += _of_feature(feature)
    found: list[int] = sums.tolist()
    most = max(found)
    if found.count(most) == 1:
        return _model().names[found.index(most)]
    return _best_of_floats(_features(token, around, last, before))


@lru_cache(KEPT)
def _of_token(token: str, word: str) -> np.ndarray:
    return _sum("bias", f"i suffix {token[-3:]}", f"i pref1 {token[:1]}", f"i word {word}")


@lru_cache(KEPT)
def _of_left(word: str) -> np.ndarray:
    return _sum(f"i-1 word {word}", f"i-1 suffix {word[-3:]}")


@lru_cache(KEPT)
def _of_right(word: str) -> np.ndarray:
    return _sum(f"i+1 word {word}", f"i+1 suffix {word[-3:]}")


@cache
def _of_tags(last: str, before: str) -> np.ndarray:
    return _sum(f"i-1 tag {last}", f"i-2 tag {before}", f"i tag+i-2 tag {last} {before}")


def _sum(*features: str) -> np.ndarray:
    first, *others = map(_of_feature, features)
    for other in others:
        first = first + other
    return first


@lru_cache(KEPT)
def _of_feature(feature: str) -> np.ndarray:
    """The weights of a feature, in thousandths, a number a class."""
    import numpy as np  # here, for most of what this room does needs none

    model = _model()
    row = np.zeros(len(model.classes), np.int32)
    for tag, weight in _weights(feature):
        row[model.classes[tag]] = weight
    return row


def _weights(feature: str) -> Iterator[tuple[str, int]]:
    told = _model().weights.get(feature, "").split()
    return zip(told[::2], map(int, told[1::2]), strict=True)


def _features(token: str, around: Sequence[str], last: str, before: str) -> tuple[str, ...]:
    """All that the tagger looks at, in NLTK's order: sums of floats depend on it."""
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


def _best_of_floats(features: Sequence[str]) -> str:
    """As NLTK has it, rounding included: one feature's weights added after the other's."""
    scores = dict.fromkeys(_model().classes, 0.0)
    for feature in features:
        for tag, weight in _weights(feature):
            scores[tag] += weight / 1000
    return max(scores, key=scores.__getitem__)


@cache
def _model() -> Perceptron:
    weights, sure, classes = (json.loads(text(f"tagger/{name}.json")) for name in ("weights", "tagdict", "classes"))
    names = tuple(sorted(classes, reverse=True))
    return Perceptron(weights, sure, {tag: at for at, tag in enumerate(names)}, names)
