"""FaithScore's three stages asked of a model, in the authors' prompts: descriptive sub-sentences, their facts, whether a fact is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from .judged import Prompt
from .judges import JudgeCall

Ask = Callable[[Sequence[JudgeCall], Callable[[str], bool]], list[list[str]]]
NAMES = ("label", "facts")
CHECK = "Statement: {} Is this statement is right according to the image? Please answer yes or no."


@cache
def prompt(name: str) -> Prompt:
    return Prompt("faithscore", f"{name}.txt")


def label(answers: Sequence[str], ask: Ask) -> list[list[str]]:
    """The sub-sentences of each answer, divided at commas and full stops, each with its mark, [D] for descriptive or [A] for analytical."""
    subs = [
        [sub for sub in (part.replace("\n", " ").replace('"', "") for part in re.split("[,.]", a)) if len(sub.strip()) > 1] for a in answers
    ]
    calls = [
        JudgeCall(f"{row}/{at}", f"{prompt('label').text}\n\n{sub}\nThis sub-sentence is ", "label", sub)
        for row, parts in enumerate(subs, 1)
        for at, sub in enumerate(parts, 1)
    ]
    replies = iter(ask(calls, lambda reply: "analytical" in reply.lower() or "descriptive" in reply.lower()))
    return [[f"{sub} [A] " if "analytical" in _last(next(replies)).lower() else f"{sub} [D] " for sub in parts] for parts in subs]


def facts(texts: Sequence[str], ask: Ask) -> dict[str, str]:
    """The reply with the facts of each descriptive text."""
    distinct = list(dict.fromkeys(texts))
    calls = [JudgeCall(str(at), f"{prompt('facts').text}\nAnswer: {text}", "facts", text) for at, text in enumerate(distinct, 1)]
    replies = ask(calls, lambda reply: "Entities" in reply)
    return {text: _last(said).lstrip().split("\n\n")[0] for text, said in zip(distinct, replies, strict=True)}


def verify(statements: Sequence[Sequence[str]], pictures: Sequence[str], ask: Ask) -> list[dict[str, str]]:
    """For each answer the replies to whether its facts are right, the picture beside them."""
    calls = [
        JudgeCall(f"{row}/{at}", CHECK.format(fact), "verify", fact, picture)
        for row, (told, picture) in enumerate(zip(statements, pictures, strict=True), 1)
        for at, fact in enumerate(told, 1)
    ]
    replies = iter(ask(calls, lambda reply: re.search(r"\b(yes|no)\b", reply.lower()) is not None))
    return [{fact: _last(next(replies)) for fact in told} for told in statements]


def _last(replies: Sequence[str]) -> str:
    return replies[-1] if replies else ""
