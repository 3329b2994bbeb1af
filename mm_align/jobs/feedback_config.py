"""What the feedback verbs are told: where prompts come from, which models are asked, how each stage works."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..config import JobConfig
from ..rlaif.candidates import Candidates
from ..rlaif.claims import Claims
from ..rlaif.judge import Judging
from ..rlaif.pairs import Pairs
from ..rlaif.questions import Questions
from ..rlaif.scores import Scores


class SourceFields(JobConfig):
    """Where prompts come from."""

    data: str | None = Field(None, description="rows of pictures with questions: JSONL, Parquet, tar, a folder of them, datasets:NAME")
    images: str | None = Field(None, description="folder of pictures; with --questions FILE also where that file's paths start from")
    questions: str = Field(
        "default", description="of --images: `default`, a text file of questions (one is drawn for each picture), or a file of rows"
    )
    question_key: str | None = Field(
        None, description="field of the question; default: question, raw_question, prompt, instruction, else the first turn"
    )
    image_key: str | None = Field(None, description="field of the picture; default: image, images, image_path, jpg, png, ...")
    image_root: str | None = Field(None, description="folder that relative picture paths start from; default: beside the file")
    limit: int | None = Field(None, ge=1, description="only the first rows")


class RunFields(JobConfig):
    """How models run and what becomes of an earlier start."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="rows in one forward")
    update: bool = Field(False, description="settings changed: keep what does not depend on them, do the rest again")


class FeedbackConfig(SourceFields, RunFields):
    """From pictures and questions to preference pairs, by one model that answers and one that judges."""

    model: str = Field(description="model that answers: folder, hub id, bundled model or endpoint")
    judge: str = Field(description="model that judges; may be the same")
    out: str = Field(description="folder for the stages' files; the same command continues an unfinished run")
    candidates: Candidates = Field(default_factory=lambda: Candidates.model_validate({}), description="how answers are drawn")
    claims: Claims = Field(default_factory=lambda: Claims.model_validate({}), description="how answers are divided into claims")
    asking: Questions = Field(default_factory=lambda: Questions.model_validate({}), description="how claims become questions")
    judging: Judging = Field(default_factory=lambda: Judging.model_validate({}), description="how the judge's answers are taken")
    scores: Scores = Field(default_factory=lambda: Scores.model_validate({}), description="what an answer's claims add up to")
    pairs: Pairs = Field(default_factory=lambda: Pairs.model_validate({}), description="which answers are paired")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")
