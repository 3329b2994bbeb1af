"""`mmalign rlaif questions`: the claims of claims.jsonl as questions that are answered by yes or no."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ...rlaif.questions import Questions
from .config import ModelFields, StageFields, part
from .folder import StageReport, require, session
from .models import Models


class QuestionsConfig(StageFields, Questions, ModelFields):
    """How claims become questions."""

    model: str | None = Field(None, description="model that writes questions, for --writer llm")


def run(config: QuestionsConfig) -> StageReport:
    """questions.jsonl. Raises UserError and `Stopped`."""
    from .steps import questions_step

    require(Path(config.folder), "claims")
    with session(Path(config.folder), Models(config), update=config.update) as started:
        if config.overwrite:
            started.redo("questions")
        started.do(questions_step(started, part(config, Questions), config.model))
        return started.report()
