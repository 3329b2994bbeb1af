"""TRL's preference data sets: prompt, chosen and rejected as messages or as text, and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..io.refusals import RowError
from ..records import Message, Part, PreferencePair
from .pair import Place, answer, pair_from, with_rest

FIELDS = "prompt, chosen, rejected (and images), or chosen and rejected as whole conversations"
IMAGE_KEY = "images"
KNOWN = ("prompt", "chosen", "rejected")


def recognises(row: Mapping[str, Any]) -> bool:
    if "chosen" not in row or "rejected" not in row:
        return False
    return "prompt" in row or ("messages" not in row and all(isinstance(row[key], list) for key in ("chosen", "rejected")))


def pair_of(row: Mapping[str, Any], place: Place) -> PreferencePair:
    """Without a prompt, it is the turns that both conversations begin with."""
    prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    if prompt is None:
        prompt, chosen, rejected = _parted(chosen, rejected)
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return pair_from(row, place, turns, (answer(chosen, "chosen"), answer(rejected, "rejected")), known=KNOWN)


def _parted(chosen: Any, rejected: Any) -> tuple[list[Any], list[Any], list[Any]]:
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        raise RowError("no_prompt", "without a prompt, chosen and rejected should be conversations that begin with it")
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    if same == len(chosen) == len(rejected):
        raise RowError("equal_answers", "both conversations are the same")
    return chosen[:same], chosen[same:], rejected[same:]


def row_of(pair: PreferencePair, images: list[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt": [_turn(message) for message in pair.sample.messages],
        "chosen": [_turn(Message("assistant", (Part("text", pair.chosen),)))],
        "rejected": [_turn(Message("assistant", (Part("text", pair.rejected),)))],
    }
    return with_rest(row | ({"images": images} if images else {}), pair)


def _turn(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": [_part(part) for part in message.parts]}


def _part(part: Part) -> dict[str, Any]:
    return {"type": "text", "text": part.text} if part.kind == "text" else {"type": part.kind}


def schema() -> Any:
    import pyarrow as pa

    content = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", content)]))
    return pa.schema([(name, turns) for name in KNOWN])
