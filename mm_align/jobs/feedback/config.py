"""What the feedback verbs are told: where prompts come from, which models are asked, how each stage works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field, model_validator

from ...config import JobConfig, merge
from ...rlaif.candidates import Candidates
from ...rlaif.claims import Claims
from ...rlaif.implicit import Implicit
from ...rlaif.judge import Judging
from ...rlaif.pairs import Pairs
from ...rlaif.questions import Questions
from ...rlaif.scores import Scores
from ..endpoint_fields import Cache, Concurrency, PriceIn, PriceOut, Timeout

Options = TypeVar("Options", bound=pydantic.BaseModel)

BY_MODEL = {"temperature": 0.2, "top_p": 0.9}
PAPER: dict[str, Any] = {
    "candidates": {"n": 10, "temperature": 0.7, "max_tokens": 512},
    "claims": {"splitter": "llm", **BY_MODEL},
    "asking": {"writer": "llm", **BY_MODEL},
    "scores": {"by": "rejected", "zero_claims": "unscored"},
    "pairs": {"k": 2, "per": "image", "min_difference": 1.0, "balance": True},
}
DEFECTS: dict[str, Any] = {
    "claims": {"cut_300_words": True, "cap_256_tokens": True, "first_character_parser": True},
    "asking": {"cap_256_tokens": True, "first_character_parser": True, "by_order": True},
    "scores": {"duplicate_claims_drop": True},
    "pairs": {"discard_reappearing": True},
}
PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER, "reference_code": merge(PAPER, DEFECTS)}
WHOLE: dict[str, Any] = {"claims": {"splitter": "whole"}, "asking": {"writer": "whole"}}


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


class ModelFields(JobConfig):
    """How models run. May differ between the starts of one run."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="rows in one forward")
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    request_cache: Cache = "off"
    price_in: PriceIn = None
    price_out: PriceOut = None


class StageFields(JobConfig):
    """A verb that does one stage."""

    folder: str = Field(description="folder of the stages' files", json_schema_extra={"positional": True})
    update: bool = Field(False, description="other settings than before: keep what does not depend on them, do the rest again")
    overwrite: bool = Field(False, description="forget what this stage did before")


class FeedbackConfig(SourceFields, ModelFields):
    """From pictures and questions to preference pairs, by one model that answers and one that judges."""

    model: str = Field(description="model that answers: folder, hub id, bundled model or endpoint")
    judge: str = Field(description="model that judges; may be the same")
    divider: str | None = Field(None, description="model that divides answers and writes questions, where that is not done by rule")
    out: str = Field(description="folder for the stages' files; the same command continues an unfinished run")
    preset: Literal["default", "paper", "reference_code"] = Field(
        "default", description="paper: RLAIF-V as meant; reference_code: with the defects of its released code; what is set besides wins"
    )
    labeller: Literal["claims", "whole", "implicit"] = Field(
        "claims", description="judge answers claim by claim, or each as a whole, or by the reward that training left in `judge`"
    )
    reference: str | None = Field(None, description="labeller implicit: the model that `judge` was before its preference training")
    candidates: Candidates = Field(default_factory=lambda: Candidates.model_validate({}), description="how answers are drawn")
    claims: Claims = Field(default_factory=lambda: Claims.model_validate({}), description="how answers are divided into claims")
    asking: Questions = Field(default_factory=lambda: Questions.model_validate({}), description="how claims become questions")
    judging: Judging = Field(default_factory=lambda: Judging.model_validate({}), description="what is reported of the judge's answers")
    implicit: Implicit = Field(default_factory=lambda: Implicit.model_validate({}), description="how the implicit reward labels")
    scores: Scores = Field(default_factory=lambda: Scores.model_validate({}), description="what an answer's claims add up to")
    pairs: Pairs = Field(default_factory=lambda: Pairs.model_validate({}), description="which answers are paired")
    score_reference: bool = Field(
        False, description="afterwards score the pairs by `model` into reference/, for `mmalign train ... --reference`"
    )
    dry_run: bool = Field(False, description="do the first 20 rows, show them and the cost of the rest, write nothing")
    update: bool = Field(False, description="other settings than before: keep what does not depend on them, do the rest again")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """What the preset and the labeller say, under what is given."""
        if not isinstance(given, Mapping):
            return given
        below = PRESETS.get(str(given.get("preset", "default")), {})
        return merge(merge(below, WHOLE if given.get("labeller") == "whole" else {}), given)

    @model_validator(mode="after")
    def _compared(self) -> FeedbackConfig:
        if self.labeller == "implicit" and self.reference is None:
            raise ValueError("labeller implicit compares `judge` with the model that it was before: give `reference`")
        return self

    def by_model(self) -> list[str]:
        """The parts that need `divider`."""
        return [name for name, own in (("claims.splitter", self.claims.splitter), ("asking.writer", self.asking.writer)) if own == "llm"]


def part(config: pydantic.BaseModel, kind: type[Options]) -> Options:
    """The fields of `kind` out of a config that has them among others."""
    return kind.model_validate({name: getattr(config, name) for name in kind.model_fields})
