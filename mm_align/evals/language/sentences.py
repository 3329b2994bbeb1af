"""NLTK's English Punkt sentence splitter (Kiss and Strunk 2006) without NLTK; the context of a full stop is judged once."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from .tables import lines

# NLTK's PunktLanguageVars (Apache-2.0).
AFTER_A_WORD = r"(?:[)\";}\]\*:@\'\({\[\?!])"
SEVERAL_MARKS = r"(?:\-{2,}|\.{2,}|(?:\.\s){2,}\.)"
END = re.compile(rf"[\.\?!](?=(?P<after>{AFTER_A_WORD}|\s+(?P<next>\S+)))")
TOKEN = re.compile(
    rf"({SEVERAL_MARKS}|(?=[^\(\"\`{{\[:;&\#\*@\)}}\]\-,])\S+?"
    rf"(?=\s|$|{AFTER_A_WORD}|{SEVERAL_MARKS}|,(?=$|\s|{AFTER_A_WORD}|{SEVERAL_MARKS}))|\S)"
)
CLOSERS = re.compile(r'["\')\]}]+?(?:\s+|(?=--)|$)', re.MULTILINE)
LAST_SPACE = re.compile(f"(?s:.*)[{string.whitespace}]")
PLAIN = re.compile(r"([^\W\d_]{2,})\.\s+\w+")  # a word, its full stop, a word: no rule but those of the first word's type apply
ELLIPSIS = re.compile(r"\.\.+$")
NUMERIC = re.compile(r"^-?[\.,]?\d[\d,\.-]*\.?$")
INITIAL = re.compile(r"[^\W\d]\.$")
# Where training saw a word: BEGINning or MIDdle of a sentence or somewhere, with an upper or lower case letter first.
MID_UPPER, UPPER, BEGIN_LOWER, LOWER = 1 << 2, 0b1110, 1 << 4, 0b1110000
KEPT = 1 << 17


class Training(NamedTuple):
    """What Punkt learnt: words that take a full stop, pairs that belong together, words that start sentences, contexts by word."""

    abbreviations: frozenset[str]
    collocations: frozenset[tuple[str, str]]
    starters: frozenset[str]
    contexts: dict[str, int]


class Token:
    """A word with its marks: `kind` is its normalised form, the flags are what the two passes made of its full stop."""

    __slots__ = ("abbreviation", "ellipsis", "ends", "kind", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.kind = NUMERIC.sub("##number##", text.lower())
        self.ends = self.abbreviation = self.ellipsis = False

    @property
    def bare(self) -> str:
        """`kind` without a final full stop."""
        return self.kind[:-1] if len(self.kind) > 1 and self.kind.endswith(".") else self.kind

    @property
    def word(self) -> str:
        """`kind` without the full stop that ends a sentence."""
        return self.bare if self.ends else self.kind


def sentences(text: str) -> list[str]:
    """The sentences of `text`, as `nltk.sent_tokenize(text)` gives them."""
    return [text[start:stop] for start, stop in _realigned(text, list(_spans(text)))]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match, context in _possible_ends(text):
        if ends_a_sentence(context):
            yield start, match.end()
            start = match.start("next") if match["next"] else match.end()
    yield start, len(text.rstrip())


def _possible_ends(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Marks that may end a sentence, each with the word before it, the mark and what follows; of marks within one word the last."""
    before: re.Match[str] | None = None
    start, stop = 0, 0  # of the word before the last mark
    for match in END.finditer(text):
        space = LAST_SPACE.match(text, stop, match.start())
        # a white space that is the first character after the last word counts as none, as in NLTK
        begin = space.end() if space and space.end() > stop + 1 else start
        if before is not None and stop <= begin:
            yield before, text[start:stop] + before.group() + before["after"]
        before, start, stop = match, begin, match.start()
    if before is not None:
        yield before, text[start:stop] + before.group() + before["after"]


def _realigned(text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans with closing quotes and brackets behind a full stop moved to the sentence that they close."""
    moved = 0
    for (start, stop), following in zip(spans, [*spans[1:], None], strict=True):
        start += moved
        closers = CLOSERS.match(text[slice(*following)]) if following else None
        if following and closers:
            moved = closers.end()
            yield start, following[0] + len(closers.group().rstrip())
            continue
        if following:
            moved = 0
        if text[start:stop]:
            yield start, stop


@lru_cache(KEPT)
def ends_a_sentence(context: str) -> bool:
    """Whether a sentence ends within `context`, before its last token."""
    plain = PLAIN.fullmatch(context)
    if plain and plain[1].lower() not in _special():
        return True
    tokens = [Token(found) for line in context.split("\n") if line.strip() for found in TOKEN.findall(line)]
    for token in tokens:
        _by_itself(token)
    for at, token in enumerate(tokens[:-1]):
        _by_its_neighbour(token, tokens[at + 1])
        if token.ends:
            return True
    return False


def _by_itself(token: Token) -> None:
    text = token.text
    if text in (".", "?", "!"):
        token.ends = True
    elif ELLIPSIS.match(text):
        token.ellipsis = True
    elif text.endswith(".") and not text.endswith(".."):
        word = text[:-1].lower()
        known = _training().abbreviations
        token.abbreviation = word in known or word.split("-")[-1] in known
        token.ends = not token.abbreviation


def _by_its_neighbour(token: Token, following: Token) -> None:
    """Punkt's second pass: collocations, abbreviations and ellipses before a sentence starter, initials and ordinals."""
    if not token.text.endswith("."):
        return
    learnt = _training()
    initial = INITIAL.match(token.text) is not None
    if (token.bare, following.word) in learnt.collocations:
        token.ends, token.abbreviation = False, True
        return
    starts = _starts_a_sentence(following)
    upper = following.text[0].isupper()
    if (token.abbreviation or token.ellipsis) and not initial and (starts or (upper and following.word in learnt.starters)):
        token.ends = True
        return
    if initial or token.bare == "##number##":
        never_lower = upper and not learnt.contexts.get(following.word, 0) & LOWER
        if starts is False or (starts is None and initial and never_lower):
            token.ends, token.abbreviation = False, True


def _starts_a_sentence(token: Token) -> bool | None:
    """By the letters that training saw the word with; None where they do not tell."""
    if token.text in tuple(";:,.!?"):
        return False
    seen = _training().contexts.get(token.word, 0)
    if token.text[0].isupper() and seen & LOWER and not seen & MID_UPPER:
        return True
    if token.text[0].islower() and (seen & UPPER or not seen & BEGIN_LOWER):
        return False
    return None


@cache
def _special() -> frozenset[str]:
    """Words whose full stop may end no sentence: abbreviations, and those that collocations begin with."""
    learnt = _training()
    return learnt.abbreviations | {first for first, _ in learnt.collocations}


@cache
def _training() -> Training:
    pairs = (line.split("\t") for line in lines("punkt/collocations.tab"))
    contexts = (line.split("\t") for line in lines("punkt/ortho_context.tab"))
    return Training(
        frozenset(lines("punkt/abbrev_types.txt")),
        frozenset((first, second) for first, second in pairs),
        frozenset(lines("punkt/sent_starters.txt")),
        {word: int(flags) for word, flags in contexts},
    )
