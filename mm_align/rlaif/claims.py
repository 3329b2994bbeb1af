"""Divide: what an answer says, as claims that can be judged one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from data_tools.calls import Generate
from data_tools.records import Claim, Response
from data_tools.text.claims import claims as plain_claims

from ..config import JobConfig
from .files import answered, prompt_text
from .stage import Done, Stage, Unit


class Claims(JobConfig):
    """How answers are divided."""

    splitter: Literal["plain", "llm", "whole"] = Field(
        "plain", description="plain: by sentences and lists, no model; llm: by a model; whole: the answer itself is the one claim"
    )


class Answer(NamedTuple):
    """An answer and the question that it answers."""

    question: str
    response: Response


def claims_stage(folder: Path, options: Claims, generate: Generate | None = None, model: Mapping[str, Any] | None = None) -> Stage:
    """candidates.jsonl -> claims.jsonl (Claim, answer by answer, numbered from 0)."""

    def units() -> Any:
        for sample, answers in answered(folder):
            question = prompt_text(sample)
            for answer in answers:
                yield Unit((answer.id,), {"question": question, "text": answer.text}, Answer(question, answer))

    def work(items: Sequence[Answer]) -> Sequence[Done]:
        return [_numbered(item, _split(item, options)) for item in items]

    return Stage("claims", {"options": options.model_dump(), "model": model}, units, work, 256)


def _split(item: Answer, options: Claims) -> list[str]:
    if options.splitter == "whole":
        return [item.response.text] if item.response.text.strip() else []
    return plain_claims(item.response.text, item.question)


def _numbered(item: Answer, found: Sequence[str]) -> Done:
    return Done([Claim(item.response.id, index, text).to_dict() for index, text in enumerate(found)])
