"""Turns a claim into a question that is answered by yes or no, by rule."""

from __future__ import annotations

import re

FALLBACK = "{claim} Is this right?"

_BE = r"(?:is|are|was|were)"
_AUX = rf"(?:{_BE}|can|could|will|would|should|may|might|must)"
_BASE = {"shows": "show", "contains": "contain", "depicts": "depict", "features": "feature", "displays": "display",
         "includes": "include", "presents": "present", "has": "have", "consists": "consist", "captures": "capture",
         "wears": "wear", "holds": "hold", "stands": "stand", "sits": "sit", "says": "say", "reads": "read", "looks": "look",
         "appears": "appear", "seems": "seem", "plays": "play", "rides": "ride", "walks": "walk", "runs": "run", "lies": "lie"}  # fmt: skip
_FRONT = r"(?P<front>(?:(?:in|on|at|to|behind|above|below|near|under|around)\b[^,]*,\s+)?)"
_THERE = re.compile(rf"{_FRONT}there\s+(?P<aux>{_BE})\s+(?P<rest>.+)", re.IGNORECASE)
_SEE = re.compile(r"(?:here\s+)?(?P<who>i|we|you|one)\s+(?P<can>can\s+)?sees?\s+(?P<rest>.+)", re.IGNORECASE)
# A plain subject: words that begin with an article or the like, or a name, without a clause of their own, to which the verb might belong.
_CLAUSE = r"(?!.*\b(?:who|whom|which|that|whose|where|when|while|because|if|although|though|as)\b)"
_FIRST = (
    r"(?:the|an?|this|that|these|those|it|he|she|they|we|you|his|her|their|its|one|two|three|four|five|some|many|several|both|each|all|"
    r"another|most|other|people|men|women|children)"
)
_STATED = re.compile(rf"(?P<subject>(?:(?!\b{_AUX}\b).)+?)\s+(?P<aux>{_AUX})\s+(?P<rest>.+)", re.IGNORECASE)
_DOES = re.compile(rf"(?P<subject>(?:(?!\b{_AUX}\b).)+?)\s+(?P<verb>{'|'.join(_BASE)})\s+(?P<rest>.+)", re.IGNORECASE)
_SUBJECT = re.compile(rf"(?:(?i:{_CLAUSE}{_FIRST}\b[^,;:()\"]*)|[A-Z][\w'.-]*(?:\s+[A-Z][\w'.-]*){{1,3}})")
_SMALL = re.compile(_FIRST, re.IGNORECASE)
_NEGATIVE = re.compile(r"\b(?:not|no|never|none|nothing|nobody|neither|nor|without)\b|n't\b|n’t\b", re.IGNORECASE)
# A second statement in the rest cannot be inverted with the first.
_SECOND = re.compile(rf"(?:,|;|\band\b|\bbut\b|\bwhile\b|\bor\b)[^,;]*\b(?:{_AUX}|has|have|appears?|seems?)\b", re.IGNORECASE)


def yes_no_question(claim: str) -> str:
    """`"There is a dog."` -> `"Is there a dog?"`, `"The dog is black."` -> `"Is the dog black?"`, `"It shows a dog."` -> `"Does it show a
    dog?"`. A claim whose form is not plain, or that negates, keeps its words: `"{claim} Is this right?"`. English.
    """
    text = " ".join(claim.split()).rstrip(".!")
    for form in () if _NEGATIVE.search(text) else (_there, _see, _stated, _does):
        question = form(text)
        if question is not None:
            return f"{question[0].upper()}{question[1:]}?"
    return FALLBACK.format(claim=f"{text}.")


def _there(text: str) -> str | None:
    found = _THERE.fullmatch(text)
    if found is None or _SECOND.search(found["rest"]):
        return None
    return f"{found['front']}{found['aux'].lower()} there {found['rest']}"


def _see(text: str) -> str | None:
    found = _SEE.fullmatch(text)
    if found is None:
        return None
    who = "you" if found["who"].lower() == "i" else found["who"].lower()
    return f"{f'can {who}' if found['can'] else f'do {who}'} see {found['rest']}"


def _stated(text: str) -> str | None:
    found = _STATED.fullmatch(text)
    if found is None or not _plain_subject(found["subject"]) or _SECOND.search(found["rest"]):
        return None
    return f"{found['aux'].lower()} {_lowered(found['subject'])} {found['rest']}"


def _does(text: str) -> str | None:
    found = _DOES.fullmatch(text)
    if found is None or not _plain_subject(found["subject"]) or _SECOND.search(found["rest"]):
        return None
    return f"does {_lowered(found['subject'])} {_BASE[found['verb'].lower()]} {found['rest']}"


def _plain_subject(subject: str) -> bool:
    return _SUBJECT.fullmatch(subject) is not None


def _lowered(subject: str) -> str:
    """Its first word small, unless that may be a name."""
    first = subject.split()[0]
    return subject[0].lower() + subject[1:] if _SMALL.fullmatch(first) else subject
