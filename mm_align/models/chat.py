"""Conversations through a chat template: the text, and which stretches of it are what the assistant says."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from data_tools.records import Message, Part

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
PROBE = "a6f1c0probe"
# How templates change the white space of what they are given, in the order of trial.
CHANGES: tuple[Callable[[str], str], ...] = (str, str.strip, str.lstrip, str.rstrip, lambda text: text.strip("\n"))
Span = tuple[int, int]
FILM = "\0film\0"  # what a hidden mark stands for where a film is; no text of a sample is like it


class Rendered(NamedTuple):
    """A conversation as text. `hidden`: marks in it that stand for data which holds control tokens. `spans`: characters that train."""

    text: str
    hidden: dict[str, str]
    spans: list[Span]


class Unplaceable(ValueError):
    """The template shows the turns otherwise than they are, so that labels cannot be found in the text."""


class Chat:
    """A chat template, asked by rendering and never by reading its source.

    image_token: what stands for one picture. controls: the special tokens of the tokenizer, which data must not speak.
    special_tokens: what templates call bos_token, eos_token ....
    """

    def __init__(self, template: str, image_token: str, controls: Sequence[str], special_tokens: Mapping[str, Any]) -> None:
        self.template, self.image_token = template, image_token
        self.controls, self.special_tokens = tuple(controls), dict(special_tokens)
        longest_first = sorted(map(re.escape, controls), key=len, reverse=True)
        self._pieces = re.compile("|".join([*longest_first, "."]), re.DOTALL)
        self.in_parts = self._takes_parts()
        self._heads: dict[str, int] = {}
        self._tails: dict[str, int] = {}

    @property
    def marks_generation(self) -> bool:
        """Whether the template has `{% generation %}` blocks."""
        return GENERATION.search(self.template) is not None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Rendered:
        """The conversation as text, without spans. Raises jinja2.TemplateError where the template refuses it."""
        hidden: dict[str, str] = {}
        return Rendered(self._text(self._turns(messages, hidden), add_generation_prompt), hidden, [])

    def render_for_training(self, messages: Sequence[Message]) -> Rendered:
        """The whole conversation, with the spans of messages that train.

        A template with `{% generation %}` blocks says itself what the assistant's words are. Of another, the span of a turn
        begins where generation would begin (behind the generation prompt) and ends where the turn does. Raises Unplaceable
        when a template changes the words (by more than the white space around them).
        """
        if self.marks_generation:
            return self._marked_by_template(messages)
        rendered = self.render(messages, add_generation_prompt=False)
        return rendered._replace(spans=self._spans(messages, rendered))

    def _marked_by_template(self, messages: Sequence[Message]) -> Rendered:
        hidden: dict[str, str] = {}
        turns = self._turns(messages, hidden)
        texts, indices = self._rendered(turns, False, return_assistant_tokens_mask=True)
        spoken = [message.trains for message in messages if message.role == "assistant"]
        blocks = [(int(start), int(end)) for start, end in indices[0]]
        if len(blocks) != len(spoken) and not all(spoken):
            raise Unplaceable(
                f"the chat template marks {len(blocks)} generated blocks in {len(spoken)} assistant turns, not all of which train"
            )
        trains = spoken if len(blocks) == len(spoken) else [True] * len(blocks)
        return Rendered(texts[0], hidden, [block for block, train in zip(blocks, trains, strict=True) if train])

    # From messages to what templates take

    def _turns(self, messages: Sequence[Message], hidden: dict[str, str]) -> list[dict[str, Any]]:
        """Templates see data that holds control tokens only as a mark."""
        return self._as_turns(messages, lambda text: self._hide(text, hidden))

    def _as_turns(self, messages: Sequence[Message], shown: Callable[[str], str]) -> list[dict[str, Any]]:
        return [{"role": message.role, "content": self._content(message.parts, shown)} for message in messages]

    def _content(self, parts: Sequence[Part], shown: Callable[[str], str]) -> str | list[dict[str, str]]:
        if self.in_parts:
            return [self._part(part, shown) for part in parts]
        return "".join(f"{self.image_token}\n" if part.kind == "image" else self._part(part, shown)["text"] for part in parts)

    def _part(self, part: Part, shown: Callable[[str], str]) -> dict[str, str]:
        """A film too is text to a template, which knows nothing of frames; `film` tells it from words."""
        if part.kind == "image":
            return {"type": "image"}
        return {"type": "text", "text": shown(part.text)} if part.kind == "text" else {"type": "text", "text": shown(FILM), "film": "yes"}

    def _hide(self, text: str, hidden: dict[str, str]) -> str:
        if text != FILM and not any(token in text for token in self.controls):
            return text
        mark = _mark()
        hidden[mark] = text
        return mark

    def _text(self, turns: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        texts: list[str] = self._rendered(turns, add_generation_prompt)[0]
        return texts[0]

    def _rendered(self, turns: list[dict[str, Any]], add_generation_prompt: bool, **options: Any) -> Any:
        told = {"chat_template": self.template, "add_generation_prompt": add_generation_prompt}
        return render_jinja_template([turns], **told, **options, **self.special_tokens)

    # What the template does, found by trying it

    def _takes_parts(self) -> bool:
        """Whether lists of parts come out as words and pictures; templates of language models take one string instead."""
        parts = [{"type": "image"}, {"type": "text", "text": PROBE}]
        try:
            text = self._text([{"role": "user", "content": parts}], False)
        except (TemplateError, TypeError):
            return False
        return PROBE in text and self.image_token in text and "'type'" not in text and '"type"' not in text

    # Where the assistant speaks

    def _spans(self, messages: Sequence[Message], rendered: Rendered) -> list[Span]:
        """The conversation is rendered once more with a mark for each text; what stands between marks is the template's."""
        marks: list[str] = []
        turns = self._as_turns(messages, lambda text: marks.append(_mark()) or marks[-1])  # type: ignore[func-returns-value]
        statics = _between(self._text(turns, False), marks)
        shown = {text: mark for mark, text in rendered.hidden.items()}
        films = iter([mark for mark, text in rendered.hidden.items() if text == FILM])
        parts = [part for message in messages for part in message.parts if part.kind != "image"]
        texts = [shown.get(part.text, part.text) if part.kind == "text" else next(films) for part in parts]
        starts, ends = _aligned(rendered.text, statics, texts)
        spans, at = [], 0
        for count, message in enumerate(messages, 1):
            size = sum(part.kind != "image" for part in message.parts)
            if message.trains and size:
                added = self._head(turns[: count - 1], marks[at - 1] if at else "", statics[at])
                closing = self._tail(turns[:count], marks[at + size - 1], statics[at + size])
                spans.append((starts[at] - added, ends[at + size - 1] + closing))
            at += size
        return spans

    def _head(self, earlier: list[dict[str, Any]], mark: str, before: str) -> int:
        """How much the template adds between the generation prompt and the words: a space, an empty thought."""
        if before not in self._heads:
            prompt = self._text(earlier, True).rpartition(mark)[2] if mark else before
            self._heads[before] = len(before) - len(prompt) if before.startswith(prompt) else 0
        return self._heads[before]

    def _tail(self, turns: list[dict[str, Any]], mark: str, after: str) -> int:
        """How much of what follows a turn belongs to it: as much as follows it too where it is the last turn.

        White space behind its last control token does not: generation has stopped there.
        """
        if after not in self._tails:
            shared = self._shared(self._text(turns, False).rpartition(mark)[2], after)
            self._tails[after] = len(shared if not shared.rstrip().endswith(self.controls) else shared.rstrip())
        return self._tails[after]

    def _shared(self, one: str, other: str) -> str:
        """What two texts have in common at their start, in characters and whole control tokens."""
        pieces = zip(*(self._pieces.findall(text) for text in (one, other)), strict=False)
        return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pieces))


def _mark() -> str:
    return f"[{secrets.token_hex(16)}]"


def _between(text: str, marks: Sequence[str]) -> list[str]:
    """The pieces of `text` around its marks. Raises Unplaceable unless each mark stands there once, in order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise Unplaceable("the chat template leaves out, repeats or moves turns")
        pieces.append(before)
    return [*pieces, text]


def _aligned(text: str, statics: Sequence[str], words: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where each of `words` starts and ends in `text` = statics[0] words[0] statics[1] ..., white space around words aside."""
    starts, ends, at = [], [], 0
    for static, following, word in zip(statics[:-1], statics[1:], words, strict=True):
        if not text.startswith(static, at):
            raise Unplaceable("the chat template changes what it writes around a turn with the turn's words")
        at += len(static)
        shown = next((new for change in CHANGES if text.startswith((new := change(word)) + following, at)), None)
        if shown is None:
            raise Unplaceable("the chat template changes the words of a turn")
        starts.append(at)
        at += len(shown)
        ends.append(at)
    if text[at:] != statics[-1]:
        raise Unplaceable("the chat template changes what it writes around a turn with the turn's words")
    return starts, ends
