"""LLaMA-Factory's pairs in ShareGPT form: conversations up to the question, one chosen and one rejected turn, images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..io.refusals import RowError
from ..records import PreferencePair
from .pair import Place, answer, pair_from, placed_text, with_rest

FIELDS = "conversations (or messages), chosen and rejected as one turn each (and images, system)"
IMAGE_KEY = "images"
TURNS = ("conversations", "messages")
NAMES = {"user": "human", "assistant": "gpt", "system": "system"}


def recognises(row: Mapping[str, Any]) -> bool:
    turns = any(isinstance(row.get(key), list) for key in TURNS)
    return turns and "prompt" not in row and "chosen" in row and "rejected" in row


def pair_of(row: Mapping[str, Any], place: Place) -> PreferencePair:
    """A field `system` becomes the first turn."""
    key = next((key for key in TURNS if isinstance(row.get(key), list)), None)
    if key is None:
        raise RowError("no_prompt", f"neither {' nor '.join(TURNS)} holds a list of turns")
    system = [{"from": "system", "value": row["system"]}] if row.get("system") else []
    answers = (answer(row.get("chosen"), "chosen"), answer(row.get("rejected"), "rejected"))
    return pair_from(row, place, [*system, *row[key]], answers, known=(key, "system", "chosen", "rejected"))


def row_of(pair: PreferencePair, images: list[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "conversations": [{"from": NAMES[m.role], "value": placed_text(m.parts)} for m in pair.sample.messages],
        "chosen": {"from": "gpt", "value": pair.chosen},
        "rejected": {"from": "gpt", "value": pair.rejected},
    }
    return with_rest(row | ({"images": images} if images else {}), pair)
