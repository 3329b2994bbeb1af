"""Divides an answer into claims that can each be checked against a picture, without a model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .sentences import sentences

_ARTICLE = (
    r"(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|multiple|various|numerous|another|other|"
    r"his|her|their|its|\d+)\b"
)
_NOUN = "image|picture|photo|photograph|scene|drawing|painting|illustration|figure|screenshot|view"
_SCENE = rf"(?:the|this|an?)\s+(?:\w+\s+)?(?:{_NOUN})"
_SHOWS = r"(?:shows?|contains?|depicts?|features?|displays?|includes?|presents?|has|consists of|is composed of|captures?)"
_OFTEN = r"(?:also|clearly|mainly|mostly|prominently)"
# What a sentence may begin with that is true of each thing it then lists.
_LISTING = re.compile(
    rf"(?P<front>(?:(?:in|on|at|to|behind|above|below|near|under|around)\b[^,]*,\s+)?)"
    rf"(?P<head>there\s+(?:is|are)(?:\s+{_OFTEN})?|(?:here\s+)?(?:i|we|you|one)\s+(?:can\s+)?(?:{_OFTEN}\s+)?sees?|"
    rf"(?:{_SCENE}|it|this|he|she|they)\s+(?:{_OFTEN}\s+)?{_SHOWS})\s+(?={_ARTICLE})",
    re.IGNORECASE,
)
_IT_SHOWS = re.compile(rf"(?:it|this)\s+(?:{_OFTEN}\s+)?(?:shows|depicts)", re.IGNORECASE)
# "some holding umbrellas", "one on the left" go on about what was named before them.
_AGAIN = r"(?:one|two|three|some|many|several|another|other)\s+(?:\w+ing|of|on|in|at|to|with|near|one)\b"
_COMMA = re.compile(rf"(?:,\s+and\s+|,\s+|;\s+(?:and\s+)?)(?={_ARTICLE})(?!{_AGAIN})", re.IGNORECASE)
_AND = re.compile(rf"\s+and\s+(?={_ARTICLE})(?!{_AGAIN})", re.IGNORECASE)
_RELATIVE = r"(?:who|whose|which|that|where|when)\b"
_CLAUSE = re.compile(rf"{_ARTICLE}(?:\s+(?!{_RELATIVE})[\w'-]+){{1,4}}\s+(?:is|are|was|were|has|have|can|appears?|seems?)\b", re.IGNORECASE)
_OPEN = re.compile(r"\b(?:between|both|either|from)\b(?!.*\b(?:and|to)\b)", re.IGNORECASE)  # what comes behind the next "and" belongs to it
# Words by which two things joined by "and" are about each other, or the second belongs to a part of the first.
_BOUND = re.compile(rf"\b(?:of|with|and|between|both|each|other|together|{_RELATIVE}|\w+ing)\b|[,;:()]", re.IGNORECASE)
_PLURAL = re.compile(
    r"(?:two|three|four|five|six|seven|eight|nine|ten|several|some|many|multiple|various|numerous|other|a few|[02-9]|\d\d+)\b"
)
_REPLY = re.compile(r"^(?:yes|no|sure|certainly|of course|okay|ok)\s*[,!.:]\s*(?=\S)", re.IGNORECASE)
_NOTHING = re.compile(r"(?:yes|no|sure|certainly|of course|okay|ok|hello|hi|thanks|thank you)?\W*", re.IGNORECASE)
_YES_NO = re.compile(r"(?:yes|no)\W*", re.IGNORECASE)
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|can|could|will|would|may|might|do|does|did|shows?|sees?|says?)\b", re.IGNORECASE)
_ENDED = re.compile(r"[.!…。！][\"'”’)\]]*$")
FRAGMENT_WORDS = 8


def claims(text: str, question: str = "") -> list[str]:
    """The claims of `text` in its order: its sentences, and of a sentence that lists things ("It shows a dog, a cat and a tree.")
    one for each thing. Questions, headings, introductions ("... as follows:") and interjections are no claims.

    An answer of a few words without a verb ("red", "Yes.") is a claim only together with the `question` it answers. Pronouns
    are not resolved, but for "it" and "this" where they stand for the picture. English.
    """
    said = sentences(text)
    if question and len(said) == 1 and _is_fragment(said[0]):
        return [f'The answer to "{" ".join(question.split())}" is "{said[0].rstrip(".")}".']
    return [claim for sentence in said for claim in _divided(sentence)]


def _is_fragment(sentence: str) -> bool:
    told = not _NOTHING.fullmatch(sentence) or _YES_NO.fullmatch(sentence)
    return bool(told) and len(sentence.split()) <= FRAGMENT_WORDS and not _VERB.search(sentence)


def _divided(sentence: str) -> Iterator[str]:
    text = _REPLY.sub("", " ".join(sentence.replace("|", " ").split()), count=1)
    if _NOTHING.fullmatch(text) or text.endswith((":", "?")):
        return
    text = text[0].upper() + text[1:]
    found = _LISTING.match(text)
    items = _items(text[found.end() :].rstrip(".!")) if found else []
    if not found or (len(items) < 2 and not _stands_for_picture(found)):
        yield text if _ENDED.search(text) else f"{text}."
        return
    yield from (_sentence(found, item) for item in items)


def _items(listed: str) -> list[str]:
    """The things of a list; one where cutting it might break what belongs together."""
    cuts = [cut for cut in _COMMA.finditer(listed) if not _CLAUSE.match(listed[cut.end() :])]
    edges = [0, *(edge for cut in cuts for edge in (cut.start(), cut.end())), len(listed)]
    items = [listed[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    if any("," in item or _OPEN.search(item) for item in items[:-1]):
        return [listed]
    return [*items[:-1], *_two(items[-1])]


def _two(item: str) -> list[str]:
    """Two things joined by "and", where each stands for itself."""
    both = _AND.split(item)
    return both if len(both) == 2 and not any(map(_BOUND.search, both)) else [item]


def _sentence(found: re.Match[str], item: str) -> str:
    head = found["head"]
    if _stands_for_picture(found):
        head = f"The image {head.split(None, 1)[1]}"
    elif head.lower().startswith("there "):
        head = f"{head.split()[0]} {'are' if _PLURAL.match(item.lower()) else 'is'}"
    return f"{found['front']}{head} {item}."


def _stands_for_picture(found: re.Match[str]) -> bool:
    """Things have and contain others too; what shows something is the picture."""
    return not found["front"] and _IT_SHOWS.fullmatch(found["head"]) is not None
