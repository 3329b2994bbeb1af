"""LLaVA `conversations` and chat `messages` of a row: into Messages, and the first answer in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..records import Image, Message, Part, Role
from .refusals import RowError, text_in

ROLES: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
PLACEHOLDER, VIDEO_PLACEHOLDER = "<image>", "<video>"


def conversation(turns: Any, images: int, videos: int = 0) -> tuple[Message, ...]:
    """LLaVA `conversations` or chat `messages` as Messages; assistant turns train. Pictures and films that no turn places go before
    the first user turn. A row of films alone may place them by `<image>`, as LLaVA-Video's do. Raises RowError when turns are malformed
    or place another number than there are."""
    messages = [Message(_role(t), _parts(t), _role(t) == "assistant") for t in turns]
    if videos:
        messages = [replace(m, parts=tuple(q for p in m.parts for q in _split(p, VIDEO_PLACEHOLDER, "video"))) for m in messages]
        if not images and not _placed(messages, "video"):
            messages = [replace(m, parts=tuple(Part("video") if p.kind == "image" else p for p in m.parts)) for m in messages]
        messages = _shown(messages, "video", videos, "films")
    return tuple(_shown(messages, "image", images, "pictures"))


def _placed(messages: Sequence[Message], kind: str) -> int:
    return sum(part.kind == kind for message in messages for part in message.parts)


def _shown(messages: list[Message], kind: Literal["image", "video"], count: int, noun: str) -> list[Message]:
    """The messages with `count` parts of the kind, put before the first user turn where there are none."""
    placed = _placed(messages, kind)
    if placed == 0 and count:
        first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
        if first is None:
            raise RowError("conversation_type", f"no user turn to show the {noun} in")
        return [replace(m, parts=(Part(kind),) * count + m.parts) if i == first else m for i, m in enumerate(messages)]
    if placed != count:
        raise RowError(f"{kind}_count", f"the conversation places {placed} {noun}, the row has {count}")
    return messages


def in_order(messages: Sequence[Message], images: tuple[Image, ...], films: tuple[Image, ...]) -> tuple[Image, ...]:
    """Pictures and films as the conversation places them."""
    if not films:
        return images
    given = {"image": iter(images), "video": iter(films)}
    return tuple(next(given[part.kind]) for message in messages for part in message.parts if part.kind in given)


def first_answer(turns: list[Any]) -> int:
    """The place of the first assistant turn. Raises RowError where there is none."""
    for i, turn in enumerate(turns):
        if _role(turn) == "assistant":
            return i
    raise RowError("no_answer", "the conversation has no assistant turn")


def _role(turn: Any) -> Role:
    if not isinstance(turn, Mapping):
        raise RowError("conversation_type", f"a turn should be an object, found {type(turn).__name__}")
    name = turn.get("from", turn.get("role"))
    if not isinstance(name, str) or name not in ROLES:
        raise RowError("conversation_type", f"a turn's role should be one of {', '.join(ROLES)}, found {str(name)[:80]}")
    return ROLES[name]


def content_of(turn: Mapping[str, Any]) -> Any:
    """What a turn says, in LLaVA's field or in the chat's."""
    return turn["value"] if "value" in turn else turn.get("content")


def answer_text(turn: Mapping[str, Any]) -> str:
    """The text of a turn, "" for null. Raises RowError."""
    content = content_of(turn)
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(p.text for p in _parts(turn) if p.kind == "text")
    return text_in(content, "an assistant turn")


def _parts(turn: Mapping[str, Any]) -> tuple[Part, ...]:
    content = content_of(turn)
    if isinstance(content, list):
        return tuple(_part(p) for p in content)
    return _split(Part("text", text_in(content if content is not None else "", "a turn")), PLACEHOLDER, "image")


def _split(part: Part, mark: str, kind: Literal["image", "video"]) -> tuple[Part, ...]:
    """A text part around the places that `mark` names."""
    if part.kind != "text" or mark not in part.text:
        return (part,)
    pieces: list[Part] = []
    for i, piece in enumerate(part.text.split(mark)):
        pieces += [Part(kind)] if i else []
        pieces += [Part("text", piece.strip("\n"))] if piece.strip("\n") else []
    return tuple(pieces)


def _part(content: Any) -> Part:
    kind = content.get("type") if isinstance(content, Mapping) else None
    if kind == "text":
        return Part("text", text_in(content.get("text"), "a text part"))
    if kind in ("image", "image_url"):
        return Part("image")
    if kind in ("video", "video_url"):
        return Part("video")
    raise RowError("conversation_type", f"a content part should have type text, image or video, found {str(content)[:80]}")


def with_answer(turns: list[Any], caption: str) -> list[Any]:
    """The turns with `caption` in place of the first answer; of several text parts the first holds it."""
    at = first_answer(turns)
    turn = dict(turns[at])
    name = "value" if "value" in turn else "content"
    if isinstance(turn.get(name), list):
        texts = [i for i, p in enumerate(turn[name]) if p.get("type") == "text"]
        kept = [p for i, p in enumerate(turn[name]) if i not in texts[1:]]
        turn[name] = [{**p, "text": caption} if p.get("type") == "text" else p for p in kept] or [{"type": "text", "text": caption}]
    else:
        turn[name] = caption
    return [*turns[:at], turn, *turns[at + 1 :]]
