"""`mmalign rlaif claims`: what the answers of candidates.jsonl claim, one by one."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ...rlaif.claims import Claims
from .config import ModelFields, StageFields, part
from .folder import StageReport, require, session
from .models import Models


class ClaimsConfig(StageFields, Claims, ModelFields):
    """How answers are divided."""

    model: str | None = Field(None, description="model that divides, for --splitter llm")


def run(config: ClaimsConfig) -> StageReport:
    """claims.jsonl. Raises UserError and `Stopped`."""
    from .steps import claims_step

    require(Path(config.folder), "candidates")
    with session(Path(config.folder), Models(config), update=config.update) as started:
        if config.overwrite:
            started.redo("claims")
        started.do(claims_step(started, part(config, Claims), config.model))
        return started.report()
