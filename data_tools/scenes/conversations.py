"""The questions of a scene or a landmark as one conversation about its picture."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..records import Sample


def with_conversation(sample: Sample) -> Sample:
    """The row with a field `conversations`: its questions with their answers, the picture before the first.

    The order is drawn by the row's id: as they are made, every second answer to a yes/no question would be no.
    """
    questions = sample.meta["sceneworld"]["questions"]
    drawn = random.Random(f"conversation-{sample.id}").sample(questions, len(questions))
    shown = "<video>" if "video" in sample.meta else "<image>"
    return replace(sample, meta={**sample.meta, "conversations": conversation(drawn, shown)})


def conversation(questions: Sequence[Mapping[str, Any]], shown: str = "<image>") -> list[dict[str, str]]:
    """Questions with answers as LLaVA's turns; `shown` is the mark of what is asked about."""
    turns: list[dict[str, str]] = []
    for number, asked in enumerate(questions):
        turns.append({"from": "human", "value": f"{shown}\n{asked['question']}" if number == 0 else asked["question"]})
        turns.append({"from": "gpt", "value": str(asked["answer"])})
    return turns
