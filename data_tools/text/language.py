"""Guess the language of a short text from its script and its commonest words; honest about not knowing."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from .words import words

_LOOK = 4000  # characters; more would not change the guess
_ENOUGH_WORDS = 4
_ENOUGH_HITS = 2

_SCRIPT_LANGUAGE = {
    "cjk": "zh", "hiragana": "ja", "katakana": "ja", "hangul": "ko", "cyrillic": "ru", "arabic": "ar", "hebrew": "he",
    "greek": "el", "devanagari": "hi", "thai": "th",
}  # fmt: skip

_STOP_WORDS = {
    language: frozenset(listed.split())
    for language, listed in {
        "en": "the a an of and is are in on with at to from near by its it this that there one two above below left right for has",
        "de": "der die das ein eine einen einem einer und ist sind im in auf mit von neben unter über links rechts zwei drei für dem den",
        "fr": "le la les un une des et est sont dans sur avec du de au aux près sous deux trois gauche droite à il y en pour devant",
        "es": "el la los las un una unos y es son en con del de al sobre cerca bajo dos tres izquierda derecha hay junto para por su",
        "it": "il lo la gli le un uno una e è sono nel nella su con del della di al vicino sotto due tre sinistra destra c'è per",
        "pt": "o a os as um uma e é são no na em com do da de ao perto sob dois duas três esquerda direita há para por",
        "nl": "de het een en is zijn in op met van bij naast onder boven twee drie links rechts er voor aan naar dit",
    }.items()
}

LANGUAGES = frozenset(_SCRIPT_LANGUAGE.values()) | frozenset(_STOP_WORDS)  # all that `guess_language` can answer


@lru_cache(maxsize=4096)
def _script_of(char: str) -> str:
    name = unicodedata.name(char, "").split(" ", 1)[0].split("-", 1)[0].lower()
    return name if name in _SCRIPT_LANGUAGE else ("latin" if name in ("latin", "fullwidth") else "other")


def script(text: str) -> str | None:
    """The script most letters of the text are written in ("latin", "cjk", "cyrillic", ..., "other"); None without letters."""
    letters = Counter(_script_of(c) for c in text[:_LOOK] if c.isalpha())
    if not letters:
        return None
    if letters["hiragana"] + letters["katakana"] > 0 and letters["cjk"] >= letters["latin"]:
        return "hiragana"  # Japanese mixes kana into Han; Chinese never does
    return max(sorted(letters), key=letters.__getitem__)


def guess_language(text: str) -> str | None:
    """ISO 639-1 code, or None where nothing can be told (no letters, too few words, a tie).

    Other scripts name their commonest language (Cyrillic "ru", Han "zh", ...); Latin script is told apart by stop words
    among en, de, fr, es, it, pt, nl. File names and tag lists have no stop words and give None. This toolkit's choice.
    """
    written = script(text)
    if written != "latin":
        return _SCRIPT_LANGUAGE.get(written) if written else None
    return _by_stop_words(words(re.sub(r"\S*[\d_/@]\S*", " ", text[:_LOOK])))


def _by_stop_words(spoken: list[str]) -> str | None:
    if len(spoken) < _ENOUGH_WORDS:
        return None
    hits = {language: sum(w in stop for w in spoken) for language, stop in _STOP_WORDS.items()}
    first, second = sorted(hits, key=hits.__getitem__, reverse=True)[:2]
    return first if hits[first] >= _ENOUGH_HITS and hits[first] > hits[second] else None
