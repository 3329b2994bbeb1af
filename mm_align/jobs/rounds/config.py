"""What `mmalign rlaif rounds` is told: the models, the data, how many rounds, and what differs from the paper in each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ...config import Config, JobConfig, UserError, load
from ..endpoint_fields import Cache, Concurrency, PriceIn, PriceOut, Timeout
from ..feedback.config import FeedbackConfig, ModelFields, SourceFields
from ..train.config import TrainConfig

SELF = "self"  # as a judge: the model of the round
# The paper's training [RLAIF-V 1.7]; "preset: rlaifv" is sigmoid DPO on sums with beta 0.1.
TRAINING: Mapping[str, Any] = {
    "objective": {"type": "preference", "preset": "rlaifv"},
    "lr": 5e-7,
    "epochs": 4,
    "batch_size": 8,
    "weight_decay": 0.01,
    "schedule": {"type": "cosine", "warmup": 0.05},
    "select_ties": "last",
}
DRAWN = ("candidates", "pairs", "implicit")  # parts of feedback that draw, each round anew
OURS = {  # keys of the parts that the rounds themselves fill in
    "feedback": {*SourceFields.model_fields, *ModelFields.model_fields, "model", "judge", "out", "dry_run", "update", "overwrite"},
    "train": {"out", "data", "eval_suites", "eval_steps", "select_by", "select_limits", "seed", "device", "dry_run", "overwrite"},
}


class Choosing(JobConfig):
    """Which checkpoint of a round becomes its model."""

    by: str | None = Field(None, description="SUITE/METRIC of `eval` (default: what stands for the first suite, as objects/hallucinating)")
    lose: dict[str, float] = Field(
        {},
        description="what may be lost against the start model, where a checkpoint can keep to it: {objects/coverage: 0.02}",
    )


class RoundsConfig(SourceFields):
    """Several rounds of feedback and preference training, each on pictures of its own and from the model before it."""

    model: str = Field(description="the model that the first round starts from: folder, hub id or bundled model")
    judge: str = Field(description="model that judges, or `self`: the model of the round judges its own answers")
    out: str = Field(description="folder for everything; the same command continues an unfinished run")
    rounds: int = Field(4, ge=1, description="rounds of feedback and training")
    images_per_round: int | None = Field(None, ge=1, description="pictures of one round, no picture in two (default: all, shared evenly)")
    feedback: dict[str, Any] = Field({}, description="of `mmalign rlaif feedback`: {candidates: {n: 10}, pairs: {k: 2}, ...}")
    train: dict[str, Any] = Field({}, description="of `mmalign train`: {lr: 5.0e-7, epochs: 4, objective: {beta: 0.1}, ...}")
    eval: list[str | dict[str, Any]] = Field(
        [], description="benchmarks that choose each round's checkpoint: [{type: objects, data: FILE}]"
    )
    test: list[str | dict[str, Any]] = Field([], description="benchmarks that are only reported (default: those of eval)")
    select: Choosing = Field(Choosing.model_validate({}), description="how a round's checkpoint is chosen")
    checks: int = Field(4, ge=1, description="checkpoints, each evaluated, in an epoch")
    keep_checkpoints: bool = Field(True, description="keep what training could be continued from when a round is over")
    title: str = Field("Rounds of feedback", description="heading of rounds.html")
    shown: int = Field(8, ge=0, description="pictures in rounds.html, with what each round's model says of them")
    drift_rows: int = Field(32, ge=0, description="answers and pairs by which each round's drift is measured")
    seed: int = Field(0, description="of the order of pictures, and with the round's number of drawing and training")
    processes: int = Field(1, ge=1, description="that train together on this machine, by torchrun")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: the accelerator where there is one")
    dtype: str = Field("auto", description="of models that answer and judge: auto, float32, bfloat16 or float16")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="rows in one forward of models that answer and judge"
    )
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    request_cache: Cache = "off"
    price_in: PriceIn = None
    price_out: PriceOut = None
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")

    @property
    def suites(self) -> list[str | dict[str, Any]]:
        """What each round's model is measured by."""
        return self.test or self.eval

    def round_seed(self, number: int) -> int:
        """Another one for every round of every seed."""
        return self.seed * 1000 + number


def feedback_config(config: RoundsConfig, number: int, model: str, rows: str, out: str) -> FeedbackConfig:
    """The feedback of a round. UserError for what its config does not take."""
    drawn = {part: {"seed": config.round_seed(number)} for part in DRAWN}
    run = {"model": model, "judge": model if config.judge == SELF else config.judge, "data": rows, "out": out}
    same = {key: getattr(config, key) for key in ModelFields.model_fields}
    return _built(FeedbackConfig, "feedback", drawn, _given(config, "feedback"), same | run)


def train_config(config: RoundsConfig, number: int, run: Mapping[str, Any]) -> TrainConfig:
    """The training of a round; `run` holds what the rounds themselves say. UserError for what its config does not take."""
    own = {"device": config.device, "seed": config.round_seed(number)}
    return _built(TrainConfig, "train", TRAINING, _given(config, "train"), run, own)


def _given(config: RoundsConfig, part: str) -> Mapping[str, Any]:
    given: Mapping[str, Any] = getattr(config, part)
    for key in given.keys() & OURS[part]:
        raise UserError(f"{part}.{key}: the rounds say this themselves; leave it away")
    nested = [(part, name, "seed") for name in DRAWN] if part == "feedback" else [(part, "model", "from")]
    for names in nested:
        if names[2] in (given.get(names[1]) or {}):
            raise UserError(f"{'.'.join(names)}: the rounds say this themselves; leave it away")
    return given


def _built(kind: type[Config], part: str, *layers: Mapping[str, Any]) -> Config:
    try:
        return load(kind, *layers)
    except UserError as error:
        raise UserError("\n".join(f"{part}: {line}" for line in str(error).splitlines())) from None
