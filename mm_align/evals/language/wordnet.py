"""NLTK's WordNetLemmatizer over WordNet 3.0 without NLTK: the shortest of the dictionary's words that a form can come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from .tables import lines

FILES = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}
ENDINGS: Mapping[str, Sequence[tuple[str, str]]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
LAST = {name: tuple({old for old, _ in endings}) for name, endings in ENDINGS.items()}
KEPT = 1 << 17


class Words(NamedTuple):
    """Of one part of speech: the dictionary's words, and irregular forms with their words."""

    known: frozenset[str]
    irregular: dict[str, list[str]]


@lru_cache(KEPT)
def lemma(word: str, pos: str = "n") -> str:
    """`WordNetLemmatizer().lemmatize(word, pos)` of NLTK 3.8: pos is n, v, a, s or r; a word that is in no dictionary stays.

    NLTK 3.9 takes endings off once only; 3.8 goes on until a word is found ("buildings" as a verb is "build"). KeyError for
    another part of speech.
    """
    name = FILES[pos]
    words = _words(name)
    if word not in words.irregular and not word.endswith(LAST[name]):
        return word
    if word in words.irregular:
        found = _known([word, *words.irregular[word]], words)
        return min(found, key=len) if found else word
    forms = list(_shortened([word], name))
    found = _known([word, *forms], words)
    while forms and not found:
        forms = list(_shortened(forms, name))
        found = _known(forms, words)
    return min(found, key=len) if found else word


def _shortened(forms: Iterable[str], name: str) -> Iterable[str]:
    return (form[: -len(old)] + new for form in forms for old, new in ENDINGS[name] if form.endswith(old))


def _known(forms: Iterable[str], words: Words) -> list[str]:
    return [form for form in forms if form in words.known]


@cache
def _words(name: str) -> Words:
    irregular = (line.split(" ") for line in lines(f"wordnet/{name}.exc"))
    return Words(frozenset(lines(f"wordnet/{name}.txt")), {form: words for form, *words in irregular})
