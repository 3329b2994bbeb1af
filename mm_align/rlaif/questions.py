"""Claims as questions that a judge answers by yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_tools.calls import Generate
from data_tools.records import Claim
from data_tools.text.yes_no import yes_no_question

from ..config import JobConfig
from .files import claims
from .stage import Done, Stage, Unit

WHOLE = "{claim}\nIs this description free of errors?"


class Questions(JobConfig):
    """How claims become questions."""

    writer: Literal["rule", "llm", "whole"] = Field(
        "rule", description="rule: by a few rules, no model; llm: by a model; whole: whether the claim, a whole answer, is free of errors"
    )
    ending: str = Field(" Please answer yes or no.", description="what stands behind every question [RLAIF-V 1.3]")


def questions_stage(folder: Path, options: Questions, generate: Generate | None = None, model: Mapping[str, Any] | None = None) -> Stage:
    """claims.jsonl -> questions.jsonl (the same claims with their questions)."""

    def units() -> Any:
        for response_id, group in groupby(claims(folder, "claims"), lambda claim: claim.response_id):
            listed = list(group)
            yield Unit((response_id,), [claim.text for claim in listed], listed)

    def work(items: Sequence[Sequence[Claim]]) -> Sequence[Done]:
        return [Done([replace(claim, question=_question(claim, options) + options.ending).to_dict() for claim in item]) for item in items]

    return Stage("questions", {"options": options.model_dump(), "model": model}, units, work, 256)


def _question(claim: Claim, options: Questions) -> str:
    return WHOLE.format(claim=claim.text) if options.writer == "whole" else yes_no_question(claim.text)
