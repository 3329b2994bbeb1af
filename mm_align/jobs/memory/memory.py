"""`mmalign memory`: what training or asking a model takes of a device's memory, part by part, and which cards it fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...config import JobConfig, UserError

if TYPE_CHECKING:
    from ...models.memory import Part

ESTIMATE = "an estimate from sizes; nothing was loaded, run or measured"


class MemoryConfig(JobConfig):
    """Of which model, and for what."""

    model: str | None = Field(
        None,
        description="folder, hub id, bundled name, or a well-known model by its sizes (llava-1.5-7b, qwen2.5-vl-7b; a wrong one lists all)",
        json_schema_extra={"positional": True},
    )
    train: str | None = Field(None, description="a training run: packaged config of `mmalign train`, or a YAML file (default: answering)")
    change: dict[str, Any] = Field({}, description="of --train: what differs from the config: `--set change.micro_batch=4`")
    processes: int = Field(1, ge=1, description="of --train: processes, one a device")
    device_memory: list[Annotated[float, Field(gt=0)]] = Field([24, 80], min_length=1, description="memory of a card in GB")
    tokens: int | None = Field(
        None, ge=1, description="tokens of a row, pictures included (default: training, max_length; else pictures and 256 of a question)"
    )
    answer_tokens: int | None = Field(
        None, ge=1, description="training: tokens of a row that a loss falls on (default: all but pictures'); else the longest answer (384)"
    )
    pictures: int = Field(1, ge=0, description="pictures of a row; of a film its frames")
    rows: int | None = Field(
        None, ge=1, description="answering: rows at once (default: 1, and for each card what the backend would choose)"
    )
    answers: int = Field(1, ge=1, description="answering: answers drawn together for each row, as `rlaif candidates` does")
    dtype: Literal["bfloat16", "float16", "float32"] = Field("bfloat16", description="answering: of the weights")
    revision: str | None = Field(None, description="commit or tag of a hub model")


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What a device needs in bytes, and what is said of each card."""

    what: str
    parts: list[dict[str, Any]]
    bytes: int
    cards: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def run(config: MemoryConfig) -> MemoryReport:
    """Print the table and what fits. UserError for a model or a config that is not at hand."""
    if config.train is None and config.model is None:
        raise UserError("name a model (mmalign memory llava-1.5-7b), a training run (--train sft/llava15), or both")
    if config.train is None and (config.change or config.processes > 1):
        raise UserError("`processes` and `change` are of a training run: give --train too; answering, each device holds a whole copy")
    from .answers import answering
    from .training import training

    report = answering(config) if config.train is None else training(config)
    print("\n".join(lines(report)))
    return report


def reported(what: str, parts: list[Part], cards: list[dict[str, Any]], notes: list[str]) -> MemoryReport:
    """The report of these parts."""
    return MemoryReport(what, [part._asdict() for part in parts], sum(part.bytes for part in parts), cards, [*notes, ESTIMATE])


def lines(report: MemoryReport) -> list[str]:
    """For people."""
    from ...models.memory import shown

    rows = [(part["name"], shown(part["bytes"]), part["how"]) for part in report.parts]
    rows.append(("sum a device", shown(report.bytes), ""))
    width, figures = (max(len(row[k]) for row in rows) for k in (0, 1))
    table = [f"  {name:<{width}}  {figure:>{figures}}  {how}".rstrip() for name, figure, how in rows]
    told = [line for card in report.cards for line in card["told"]]
    return [report.what, *table, "", *told, "", *report.notes]
