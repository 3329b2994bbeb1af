"""What `mmalign aitqe data` is told: the pairs, the judge, how it is asked, and what makes a caption good."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from ...config import JobConfig
from ..feedback.config import ModelFields


class Scoring(JobConfig):
    """Phase 1: scores with explanations."""

    prompts: list[str] = Field(
        [], description="your own questions, each with {caption} once; one is drawn for each row (default: eight of this toolkit)"
    )
    temperature: float = Field(0.0, ge=0, description="of drawing; 0 draws the likeliest token always")
    max_tokens: int = Field(512, ge=1, description="longest answer")
    partial: bool = Field(False, description="accept answers that lack aspects or explanations; the model then learns to leave them out")

    @field_validator("prompts")
    @classmethod
    def _one_slot(cls, given: list[str]) -> list[str]:
        for prompt in given:
            if prompt.count("{caption}") != 1:
                raise ValueError(f"a prompt holds {{caption}} exactly once, this one {prompt.count('{caption}')} times: {prompt[:80]!r}")
        return given


class Contrast(JobConfig):
    """Phase 2: a worse caption of a good one, a better caption of a poor one."""

    wrong: float = Field(0.6, ge=0, description="share of worse captions that are wrong in one or two places")
    irrelevant: float = Field(0.2, ge=0, description="share that describe another picture")
    poor: float = Field(0.2, ge=0, description="share that are badly written")
    temperature: float = Field(0.7, ge=0, description="of drawing")
    max_tokens: int = Field(256, ge=1, description="longest answer")
    max_similarity: float = Field(0.98, gt=0, le=1, description="a new caption shares at most so much of its words with the old one")

    def shares(self) -> dict[str, float]:
        """Style -> share."""
        return {"wrong": self.wrong, "irrelevant": self.irrelevant, "poor": self.poor}


class AitqeDataConfig(ModelFields):
    """Training data for a quality model: every picture once with a good and once with a bad caption."""

    source: str = Field(
        description="image-text pairs: JSONL, Parquet, tar, a folder of them, datasets:NAME", json_schema_extra={"positional": True}
    )
    judge: str = Field(description="model that scores and writes captions: endpoint (openai:URL#MODEL), folder, hub id")
    out: str = Field(description="folder for the stages' files; the same command continues an unfinished run")
    good_from: float = Field(7, gt=1, le=10, description="overall score from which a caption is good (the paper's cut is not public)")
    attempts: int = Field(2, ge=1, description="how often a row is asked, each time in another phrasing, before it goes to quarantine")
    equal_kinds: bool = Field(False, description="as many pictures with a good raw caption as with a bad one; the rest goes to quarantine")
    scoring: Scoring = Field(default_factory=lambda: Scoring.model_validate({}), description="phase 1: scores with explanations")
    contrast: Contrast = Field(default_factory=lambda: Contrast.model_validate({}), description="phase 2: captions of contrasting quality")
    caption_key: str | None = Field(None, description="field of the caption; default: caption, text, txt, else a conversation")
    image_key: str | None = Field(None, description="field of the picture; default: image, images, image_path, jpg, png, ...")
    image_root: str | None = Field(None, description="folder that relative picture paths start from; default: beside the file")
    limit: int | None = Field(None, ge=1, description="only the first rows")
    seed: int = Field(0, description="draws phrasings and styles of each row, and answers where the temperature is above 0")
    dry_run: bool = Field(False, description="do the first 20 rows, show them and the cost of the rest, write nothing")
    update: bool = Field(False, description="other settings than before: keep what does not depend on them, do the rest again")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")

    @field_validator("contrast")
    @classmethod
    def _some_style(cls, given: Any) -> Any:
        if not sum(given.shares().values()):
            raise ValueError("wrong, irrelevant and poor are all 0, so no worse caption could be asked for; give one of them a share")
        return given
