"""`mmalign rlaif feedback`: pictures and questions in, preference pairs out, every stage a file that can be looked at.

Its parts: `feedback_config`, `feedback_folder` (what is done and with which settings), `feedback_steps` (the stages), `feedback_models`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .feedback_config import FeedbackConfig
from .feedback_folder import do, feedback_folder
from .feedback_models import Models

if TYPE_CHECKING:
    from data_tools.calls import Backend

__all__ = ["FeedbackConfig", "FeedbackReport", "feedback", "run"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeedbackReport:
    """What a run came to: its folder, its pairs, a summary of each stage by name."""

    out: Path
    pairs: Path
    summary: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def run(config: FeedbackConfig) -> FeedbackReport:
    """Do what the config says and print what came of it. Raises UserError and `Stopped`."""
    report = feedback(config)
    print(f"pairs: {report.pairs}")
    return report


def feedback(config: FeedbackConfig, *, backends: Mapping[str, Backend] | None = None) -> FeedbackReport:
    """All stages in order. `backends`: models that are loaded already, by the names the config gives them."""
    from ..rlaif.stage import Watch
    from .feedback_steps import candidates_step, claims_step, judge_step, pairs_step, prompts_step, questions_step, scores_step
    from .progress import stop_on_signals

    models = Models(config, backends)
    with feedback_folder(Path(config.out), overwrite=config.overwrite) as run_dir, stop_on_signals() as stop:
        watch = Watch(stop)
        steps = (
            lambda: prompts_step(run_dir, config),
            lambda: candidates_step(run_dir, config.candidates, config.model, models, watch),
            lambda: claims_step(run_dir, config.claims, watch),
            lambda: questions_step(run_dir, config.asking, watch),
            lambda: judge_step(run_dir, config.judging, config.judge, models, watch),
            lambda: scores_step(run_dir, config.scores, watch),
            lambda: pairs_step(run_dir, config.pairs),
        )
        summary = {}
        for make in steps:  # made in their turn: a step's inputs are the files of the one before it
            step = make()
            summary[step.name] = do(run_dir, step, update=config.update)
        return FeedbackReport(run_dir.root, run_dir.root / "pairs.jsonl", summary)
