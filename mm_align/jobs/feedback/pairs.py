"""`mmalign rlaif pairs`: scores of judged.jsonl's answers, and preference pairs of answers whose scores differ."""

from __future__ import annotations

from pathlib import Path

from ...rlaif.pairs import Pairs
from ...rlaif.scores import Scores
from .config import StageFields, part
from .folder import StageReport, require, session
from .models import Models


class PairsConfig(StageFields, Scores, Pairs):
    """What claims add up to, and which answers are paired."""


def run(config: PairsConfig) -> StageReport:
    """scores.jsonl and pairs.jsonl. Raises UserError and `Stopped`."""
    from .steps import pairs_step, scores_step

    root = Path(config.folder)
    require(root, "judged")
    with session(root, Models(), update=config.update) as started:
        if config.overwrite:
            started.redo("scores")
            started.redo("pairs")
        started.do(scores_step(started, part(config, Scores)))
        started.do(pairs_step(started, part(config, Pairs)))
        return started.report()
