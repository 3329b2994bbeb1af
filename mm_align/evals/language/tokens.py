"""NLTK's `word_tokenize` (3.8.2 to 3.9.2) without NLTK: sentences by Punkt, then Treebank words, each chunk of text worked out once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import chain

from .sentences import sentences

# NLTK's NLTKWordTokenizer (Apache-2.0), in its order. From 3.9.3 on it also splits at the dashes U+2012 to U+2015, which changes
# CHAIR's words on modern captions; papers were scored without.
OPENING = (
    (re.compile("([«“‘„]|[`]+)"), r" \1 "),
    (re.compile(r"^\""), "``"),
    (re.compile(r"(``)"), r" \1 "),
    (re.compile(r"([ \(\[{<])(\"|\'{2})"), r"\1 `` "),
    (re.compile(r"(?i)(\')(?!re|ve|ll|m|t|s|d|n)(\w)\b"), r"\1 \2"),
)
PUNCTUATION = (
    (re.compile(r'([^\.])(\.)([\]\)}>"\'»”’ ]*)\s*$'), r"\1 \2 \3 "),
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"\.{2,}"), r" \g<0> "),
    (re.compile(r"[;@#$%&]"), r" \g<0> "),
    (re.compile(r'([^\.])(\.)([\]\)}>"\']*)\s*$'), r"\1 \2\3 "),
    (re.compile(r"[?!]"), r" \g<0> "),
    (re.compile(r"([^'])' "), r"\1 ' "),
    (re.compile(r"[*]"), r" \g<0> "),
    (re.compile(r"[\]\[\(\)\{\}\<\>]"), r" \g<0> "),
    (re.compile(r"--"), " -- "),
)
CLOSING = (
    (re.compile("([»”’])"), r" \1 "),
    (re.compile(r"''"), " '' "),
    (re.compile(r'"'), " '' "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"([^' ])('[sS]|'[mM]|'[dD]|') "), r"\1 \2 "),
    (re.compile(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) "), r"\1 \2 "),
)
CONTRACTIONS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(can)(not)\b",
        r"\b(d)('ye)\b",
        r"\b(gim)(me)\b",
        r"\b(gon)(na)\b",
        r"\b(got)(ta)\b",
        r"\b(lem)(me)\b",
        r"\b(more)('n)\b",
        r"\b(wan)(na)(?=\s)",
        r" ('t)(is)\b",
        r" ('t)(was)\b",
    )
)
GLUED = frozenset({"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"})
ALL_CLOSERS = re.compile(r"[\]\)}>\"'»”’]*")
KEPT = 1 << 17  # distinct chunks remembered: a corpus of captions has fewer


def reader(each: Callable[[str], str] = str) -> Callable[[str], list[str]]:
    """A function from a text to its words and marks, as `nltk.word_tokenize(text)` gives them, put through `each` one by one.

    What a chunk of text gives is remembered. Every rule looks no further than the blank before and the blank behind a chunk, so a
    chunk between two single blanks always gives the same words. Other sentences go through the rules whole: with other white
    space than single blanks (rules name the blank), with a lone chunk (rules for a quote at the very start), and with a last chunk
    of closing marks only (the rule for the final full stop reaches back over those).
    """

    @lru_cache(KEPT)
    def first(chunk: str) -> tuple[str, ...]:
        return tuple(map(each, _first(chunk)))

    @lru_cache(KEPT)
    def middle(chunk: str) -> tuple[str, ...]:
        return tuple(map(each, _middle(chunk)))

    @lru_cache(KEPT)
    def last(chunk: str) -> tuple[str, ...]:
        return tuple(map(each, _last(chunk)))

    def words(text: str) -> list[str]:
        found: list[str] = []
        for sentence in sentences(text):
            chunks = sentence.split()
            if len(chunks) < 2 or " ".join(chunks) != sentence or _closes_only(chunks[-1]):
                found += map(each, words_of_sentence(sentence))
                continue
            found += first(chunks[0])
            found += chain.from_iterable(map(middle, chunks[1:-1]))
            found += last(chunks[-1])
        return found

    return words


def _first(chunk: str) -> list[str]:
    return [chunk] if _plain(chunk) else words_of_sentence(f"{chunk} x")[:-1]


def _middle(chunk: str) -> list[str]:
    if _plain(chunk):
        return [chunk]
    if chunk[-1] == "," and _plain(chunk[:-1]):
        return [chunk[:-1], ","]
    return words_of_sentence(f"x {chunk} x")[1:-1]


def _last(chunk: str) -> list[str]:
    if chunk[-1] == "." and _plain(chunk[:-1]):
        return [chunk[:-1], "."]
    return words_of_sentence(f"x {chunk}")[1:]


def _closes_only(chunk: str) -> bool:
    return not chunk[0].isalnum() and ALL_CLOSERS.fullmatch(chunk) is not None


def _plain(chunk: str) -> bool:
    """Whether no rule touches it: ASCII letters only, and none of the glued words."""
    return chunk.isascii() and chunk.isalpha() and chunk.lower() not in GLUED


def words_of_sentence(text: str) -> list[str]:
    """The words of one sentence by the rules, with nothing remembered."""
    for rule, to in (*OPENING, *PUNCTUATION):
        text = rule.sub(to, text)
    text = f" {text} "
    for rule, to in CLOSING:
        text = rule.sub(to, text)
    for rule in CONTRACTIONS:
        text = rule.sub(r" \1 \2 ", text)
    return text.split()


word_tokenize = reader()
