"""`mmalign rlaif judge`: a judge's probabilities of yes and no to every question of questions.jsonl."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ...rlaif.judge import Judging
from .calibration import write_calibration
from .config import ModelFields, StageFields
from .folder import StageReport, require, session
from .models import Models


class JudgeConfig(StageFields, Judging, ModelFields):
    """Who judges."""

    model: str = Field(description="model that judges: folder, hub id, bundled model or endpoint")
    truth: str | None = Field(None, description="file of claim truths; then calibration.html and calibration.json are written too")


def run(config: JudgeConfig) -> StageReport:
    """judged.jsonl. Raises UserError and `Stopped`."""
    from .steps import judge_step
    from .summary import judged, told

    root = Path(config.folder)
    require(root, "questions")
    with session(root, Models(config), update=config.update) as started:
        if config.overwrite:
            started.redo("judged")
        started.do(judge_step(started, config.model))
        print(told({"judge": judged(root, config.near)}))
        return started.report(write_calibration(root, Path(config.truth)).to_dict() if config.truth else None)
