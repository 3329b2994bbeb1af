"""NLTK's `word_tokenize` (3.8.2 to 3.9.2) without NLTK: sentences by Punkt, then Treebank words, each chunk of text worked out once."""

from __future__ import annotations

import re
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
OTHER_SPACE = re.compile(r"[^\S ]")
GLUED = frozenset({"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"})
ALL_CLOSERS = re.compile(r"[\]\)}>\"'»”’]*")
KEPT = 1 << 17  # distinct chunks remembered: a corpus of captions has fewer


def word_tokenize(text: str) -> list[str]:
    """The words and marks of `text`, as `nltk.word_tokenize(text)` gives them."""
    found: list[str] = []
    for sentence in sentences(text):
        _extend(found, sentence)
    return found


def _extend(found: list[str], sentence: str) -> None:
    """Add a sentence's words.

    Every rule looks no further than the blank before and the blank behind a chunk, so a chunk between two single blanks always
    gives the same words. The exceptions go through the rules whole: other white space than the blank (rules name the blank), a
    leading blank and a lone chunk (a quote at the very start), and a last chunk of closing marks only (the rule for the final full
    stop reaches back over those).
    """
    chunks = sentence.split(" ")
    if len(chunks) == 1 or not chunks[0] or ALL_CLOSERS.fullmatch(chunks[-1]) or OTHER_SPACE.search(sentence):
        found += words_of_sentence(sentence)
        return
    found += _first(chunks[0])
    found += chain.from_iterable(map(_middle, chunks[1:-1]))
    found += _last(chunks[-1])


@lru_cache(KEPT)
def _middle(chunk: str) -> tuple[str, ...]:
    if _plain(chunk):
        return (chunk,)
    if chunk[-1:] == "," and _plain(chunk[:-1]):
        return (chunk[:-1], ",")
    return tuple(words_of_sentence(f"x {chunk} x")[1:-1])


@lru_cache(KEPT)
def _first(chunk: str) -> tuple[str, ...]:
    return tuple(words_of_sentence(f"{chunk} x")[:-1])


@lru_cache(KEPT)
def _last(chunk: str) -> tuple[str, ...]:
    if chunk[-1] == "." and _plain(chunk[:-1]):
        return (chunk[:-1], ".")
    return tuple(words_of_sentence(f"x {chunk}")[1:])


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
