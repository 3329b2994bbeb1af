"""`mmalign rlaif reference`: what a model gives every answer token of preference pairs, once, for any number of training runs."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...choices import Keys
from ...config import JobConfig, UserError

if TYPE_CHECKING:
    from ...train.pair_data import PairSet

log = logging.getLogger(__name__)
ROWS = ".rows"


class ReferenceConfig(JobConfig):
    """Scores of a reference model for `mmalign train ... --reference OUT`."""

    pairs: str = Field(description="file or folder of preference pairs", json_schema_extra={"positional": True})
    model: str = Field(description="the reference: folder, hub id or bundled name; the model that training will start from")
    out: str = Field(description="folder of scores; what is there already is kept, and scored pairs are not scored again")
    format: Annotated[str, Keys("data_tools/preference/face.py", "FORMATS")] | None = Field(
        None, description="of the pairs (default: by the columns)"
    )
    image_root: str | None = Field(None, description="folder that relative picture paths start from (default: beside the file)")
    max_length: int = Field(2048, ge=8, description="tokens of prompt and answer, as in training; longer pairs go to quarantine")
    pair_layout: Literal["shared", "duplicated"] = Field("shared", description="as in training: one row a pair, or a row for each answer")
    contrast: Literal["crop", "noise", "black"] | None = Field(
        None, description="score corrupted pictures too, as the objective's contrast"
    )
    seed: int = Field(0, description="of corrupted pictures, as in training")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="as in training: bf16 on a GPU, fp32 elsewhere")
    train: list[str] = Field(
        [],
        description="in bf16: what training trains whole, as its `train` (with lora without its parts): all else is kept in bfloat16; "
        "default: nothing is, as under FSDP",
    )
    device: Literal["auto", "cpu"] = Field("auto", description="auto: the accelerator where there is one")
    batch: int = Field(8, ge=1, description="pairs of one forward")


@dataclass(frozen=True)
class ReferenceReport:
    """Pairs that were scored now, that had scores before, and that left with a reason."""

    scored: int
    known: int
    quarantined: int


def run(config: ReferenceConfig) -> ReferenceReport:
    """Score what has no scores yet. UserError for bad input."""
    from accelerate import PartialState

    from ...models.corruptions import Corruption
    from ...train.pair_data import PairCollator
    from ...train.reference import context_of
    from ..train.config import ModelConfig
    from ..train.model import build
    from ..train.pairs import computed_in, score, settle_layout

    out = folder(config)
    model, processor = build(ModelConfig.model_validate({"from": config.model}), config.seed)
    dtype = computed_in(config)
    if config.train:
        freeze_as_in_training(config, model)
    data = read(config, processor, out)
    model.to(PartialState(cpu=config.device == "cpu").device)
    corruption = Corruption(config.contrast, config.seed) if config.contrast else None
    collate = PairCollator(processor, layout=config.pair_layout, corruption=corruption)
    settle_layout(model, collate, data, dtype)
    context = context_of(model, processor, dtype=dtype, layout=collate.layout)
    done = score(out, context, model, data, collate, dtype, config.batch)
    shutil.rmtree(out / ROWS, ignore_errors=True)
    lines = data.quarantine.read_text(encoding="utf-8").splitlines()
    report = ReferenceReport(sum(way.scored for way in done), sum(way.known for way in done), len(set(lines)))
    left = f", {report.quarantined} quarantined ({data.quarantine})" if report.quarantined else ""
    print(f"{report.scored} scored, {report.known} known{left}: {out}")
    return report


def freeze_as_in_training(config: ReferenceConfig, model: Any) -> None:
    """The weights as a run of this `train` and precision keeps them. UserError for a part that no model has."""
    from ...train.optim import train_only
    from ..train.arguments import in_bf16
    from ..train.setup import halve_frozen

    try:
        train_only(model, config.train)
    except ValueError as error:
        raise UserError(f"train: {error}") from error
    if in_bf16(config):
        halve_frozen(model)


def folder(config: ReferenceConfig) -> Path:
    """Where the scores go. UserError where no folder can be made there."""
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be a folder: {error.strerror}; choose another") from error
    return out


def read(config: ReferenceConfig, processor: Any, out: Path) -> PairSet:
    """The pairs as training reads them. UserError where none is left."""
    from data_tools.io import SourceError

    from ...train.pair_data import pair_set
    from ...train.sources import Source

    given = {"path": config.pairs, "format": config.format, "image_root": config.image_root}
    source = Source.model_validate({key: value for key, value in given.items() if value is not None})
    try:
        data = pair_set(
            [source], processor, quarantine=out / "quarantine.jsonl", max_length=config.max_length, shuffle=False, cache=out / ROWS
        )
    except (SourceError, ValueError) as error:
        raise UserError(f"the pairs: {error}") from error
    log.info("%s", data.summary())
    return data
