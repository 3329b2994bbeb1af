"""ms-swift's pairs: messages with the chosen answer as the last turn, rejected_response (or rejected_messages), images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..io.refusals import RowError
from ..records import PreferencePair
from .pair import Place, answer, pair_from, placed_text, with_rest

FIELDS = "messages, rejected_response or rejected_messages (and images)"
IMAGE_KEY = "images"
KNOWN = ("messages", "rejected_response", "rejected_messages", "rejected_images")


def recognises(row: Mapping[str, Any]) -> bool:
    return "messages" in row and ("rejected_response" in row or "rejected_messages" in row)


def pair_of(row: Mapping[str, Any], place: Place) -> PreferencePair:
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        raise RowError("no_prompt", "messages should be a list of turns that ends with the chosen answer")
    if row.get("rejected_images") not in (None, [], row.get("images")):
        raise RowError("different_prompts", "the rejected answer is about other pictures")
    answers = (answer([turns[-1]], "chosen"), answer(_rejected(row, turns), "rejected"))
    return pair_from(row, place, turns[:-1], answers, known=KNOWN)


def _rejected(row: Mapping[str, Any], turns: list[Any]) -> Any:
    if row.get("rejected_response") is not None:
        return row["rejected_response"]
    others = row.get("rejected_messages")
    if not isinstance(others, list) or not others:
        raise RowError("empty_answer", "neither rejected_response nor rejected_messages holds an answer")
    if others[:-1] != turns[:-1]:
        raise RowError("different_prompts", "the rejected answer belongs to another conversation")
    return [others[-1]]


def row_of(pair: PreferencePair, images: list[Any]) -> dict[str, Any]:
    turns = [{"role": m.role, "content": placed_text(m.parts)} for m in pair.sample.messages]
    row: dict[str, Any] = {
        "messages": [*turns, {"role": "assistant", "content": pair.chosen}],
        "rejected_response": pair.rejected,
    }
    return with_rest(row | ({"images": images} if images else {}), pair)
