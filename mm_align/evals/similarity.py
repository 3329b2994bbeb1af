"""How near two words are: a table that the user gives, spaCy's word vectors, or string equality."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .answers import read_text

Similar = Callable[[str, str], float]
NAMES = ("similarity", "similarities", "vectors")
EQUALITY = "identity"
EXPECTED = 'expected {"a": {"b": 0.9}}, {"a|b": 0.9}, {"a": [vector]}, [["a", "b", 0.9]], or lines of "a b 0.9"'


class Similarity(NamedTuple):
    """between: of two words, remembered; None for string equality. told: a flag that says what was used in place of spaCy's vectors."""

    between: Similar | None
    told: tuple[str, ...] = ()


def similarity_of(given: str | None, models: Sequence[str]) -> Similarity:
    """What `given` names: "identity" for string equality, or a file of a table, see `read_table`; without it the first spaCy model of
    `models` that is installed, else string equality, which the flag says. ValueError for a file that holds no table, OSError for none."""
    if given == EQUALITY:
        return Similarity(None)
    if given is not None:
        return Similarity(read_table(Path(given)))
    for model in models:
        if (between := _spacy(model)) is not None:
            return Similarity(between)
    return Similarity(None, (f"similarity: string equality, for no spaCy model {models[0]} is installed; upstream uses its vectors",))


def _spacy(model: str) -> Similar | None:
    try:
        import spacy

        language = spacy.load(model)
    except (ImportError, OSError):
        return None
    document = cache(language)
    return cache(lambda a, b: float(document(a).similarity(document(b))))


def read_table(path: Path) -> Similar:
    """A table of word pairs, in either order; equal words are 1, and pairs without a number 0.

    JSON: {"a": {"b": 0.9}}, {"a|b": 0.9} (also with a tab, comma or blank), [["a", "b", 0.9]], {"a": [numbers]} for vectors whose
    cosine it is, or one of these under a key such as `similarity`. Text: three columns a line.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # no JSON
        content = [line.replace("\t", " ").replace(",", " ").split() for line in text.splitlines() if line.strip()]
    if isinstance(content, Mapping):
        content = next((content[name] for name in NAMES if isinstance(content.get(name), Mapping | list)), content)
        if content and all(isinstance(value, list) for value in content.values()):
            return _of_vectors({word: tuple(map(float, vector)) for word, vector in content.items()})
    try:
        table = dict(_pairs(content))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of similarities; {EXPECTED}") from error
    if not table:
        raise ValueError(f"{path} holds no similarities; {EXPECTED}")
    return lambda a, b: 1.0 if a == b else table.get((a, b), table.get((b, a), 0.0))


def _pairs(content: Any) -> Iterator[tuple[tuple[str, str], float]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from (((str(key), str(other)), float(near)) for other, near in value.items())
            else:
                yield _split(key), float(value)
    else:
        for row in content:
            a, b, near = row.values() if isinstance(row, Mapping) else row
            yield (str(a), str(b)), float(near)


def _split(pair: str) -> tuple[str, str]:
    mark = next((mark for mark in "|\t, " if mark in pair), "|")
    a, b = pair.split(mark)
    return a.strip(), b.strip()


def _of_vectors(vectors: Mapping[str, tuple[float, ...]]) -> Similar:
    """spaCy's rule for texts: equal ones are 1, one without a vector, or of length 0, is 0 to all others."""

    @cache
    def between(a: str, b: str) -> float:
        if a == b:
            return 1.0
        one, other = vectors.get(a, ()), vectors.get(b, ())
        lengths = math.hypot(*one) * math.hypot(*other)
        return sum(x * y for x, y in zip(one, other, strict=False)) / lengths if lengths else 0.0

    return between
