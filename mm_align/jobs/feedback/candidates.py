"""`mmalign rlaif candidates`: N answers of a model to each prompt."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ...rlaif.candidates import Candidates
from .config import ModelFields, SourceFields, part
from .folder import StageReport, session
from .models import Models


class CandidatesConfig(SourceFields, Candidates, ModelFields):
    """What is asked, whom, and how answers are drawn."""

    model: str = Field(description="model that answers: folder, hub id, bundled model or endpoint")
    out: str = Field(description="folder for samples.jsonl and candidates.jsonl, and for what the later stages write")
    update: bool = Field(False, description="other settings than before: keep what does not depend on them, do the rest again")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, later stages' files included")


def run(config: CandidatesConfig) -> StageReport:
    """samples.jsonl and candidates.jsonl. Raises UserError and `Stopped`."""
    from .steps import candidates_step, prompts_step

    with session(Path(config.out), Models(config), update=config.update, overwrite=config.overwrite) as started:
        started.do(prompts_step(started, config))
        started.do(candidates_step(started, part(config, Candidates), config.model))
        return started.report()
