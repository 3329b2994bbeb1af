"""`mmalign aitqe data`: image-text pairs and a judge in, training data for a quality model out, every stage a file.

Its parts: `config`, `stages` (what is asked and what becomes of the answers), `report`; doing a stage, the folder and
the models are those of `mmalign rlaif feedback`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError, to_yaml
from ..endpoint_costs import tell_total
from ..feedback.folder import Session, Step, count_lines, inputs, session
from ..feedback.models import Models, known_by
from .config import AitqeDataConfig

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.io import Shard
    from data_tools.records import Image, Rejected, Sample

    from ...rlaif.stage import Places, StageSummary, Watch

__all__ = ["AitqeDataConfig", "AitqeDataReport", "build", "run"]
log = logging.getLogger(__name__)
STAGES = ("samples", "scored", "contrasts", "rescored", "aitqe")
OTHERS = ("images",)  # beside those that every run has
DRY_ROWS = 20


@dataclass(frozen=True)
class AitqeDataReport:
    """What a run came to: its folder, the training rows (None after a dry run), what report.json says."""

    out: Path
    rows: Path | None
    summary: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def run(config: AitqeDataConfig) -> AitqeDataReport:
    """Do what the config says and print what came of it. Raises UserError and `Stopped`."""
    if config.dry_run:
        for line in dry_run(config):
            print(line)
        return AitqeDataReport(Path(config.out), None)
    report = build(config)
    tell_total(report.summary.get("endpoint"))
    kinds = ", ".join(f"{n} {kind}" for kind, n in report.summary["kinds"].items())
    print(f"training rows: {report.rows} ({kinds}); report: {report.out / 'report.html'}")
    return report


def build(config: AitqeDataConfig, *, backends: Mapping[str, Backend] | None = None) -> AitqeDataReport:
    """All stages in order. `backends`: judges that are loaded already, by the name that the config gives them."""
    from data_tools.disk.durable import write_atomic

    from .report import summarise, write

    check(config)
    with opened(Path(config.out), config, backends) as started:
        for make in steps(started, config):
            started.do(make())
        write_atomic(started.root / "config.yaml", to_yaml(config).encode())
        summary = summarise(started)
        write(started.root, summary, config)
    if not summary["kinds"]:
        log.warning("WARNING: no training row came out of %d rows; the files in %s/quarantine say why", summary["rows"]["in"], config.out)
    return AitqeDataReport(started.root, started.root / "aitqe.jsonl", summary)


def check(config: AitqeDataConfig) -> None:
    """UserError for a run that writes into its source."""
    out, source = Path(config.out).resolve(), Path(config.source)
    if source.exists() and (out == (given := source.resolve()) or given in out.parents):
        raise UserError(f"--out {config.out} lies in the source {config.source}; choose a folder outside it")


def opened(root: Path, config: AitqeDataConfig, backends: Mapping[str, Backend] | None = None) -> AbstractContextManager[Session]:
    """The run's folder, held, while stop signals are taken."""
    models, kept = Models(config, backends), {"update": config.update, "overwrite": config.overwrite}
    return session(root, models, stages=STAGES, others=OTHERS, verb="aitqe data", **kept)


def steps(run: Session, config: AitqeDataConfig) -> Iterator[Callable[[], Step]]:
    """The stages in order, each to be made in its turn: what it reads are the files of those before."""
    from . import stages as of

    yield lambda: _samples(run, config)
    yield lambda: _asked(run, config, "scored", of.scored_stage, ["samples"])
    yield lambda: _asked(run, config, "contrasts", of.contrasts_stage, ["samples", "scored"])
    yield lambda: _asked(run, config, "rescored", of.rescored_stage, ["samples", "scored", "contrasts"])
    yield lambda: _rows(run, config)


def _samples(run: Session, config: AitqeDataConfig) -> Step:
    """The source -> samples.jsonl: rows with a caption (which may be empty) and a picture."""
    from ...rlaif.prompts import collect_as
    from ..feedback.steps import samples_step

    shards = _shards(config)
    bound = {name: getattr(config, name) for name in ("caption_key", "image_key", "image_root", "limit")}
    pairs = "is a pair of a picture and a caption"
    return samples_step(shards, bound, lambda at: collect_as(_pair, _read(config, shards), run.root, at), pairs)


def _shards(config: AitqeDataConfig) -> list[Shard]:
    from data_tools.io import list_shards

    return list_shards(config.source)


def _read(config: AitqeDataConfig, shards: list[Shard]) -> Iterator[Sample | Rejected]:
    from data_tools.io import read

    keys: dict[str, Any] = {"caption_key": config.caption_key, "image_key": config.image_key, "image_root": config.image_root}
    return islice((row for shard in shards for row in read(shard, **keys)), config.limit)


def _pair(row: Sample, images: tuple[Image, ...]) -> Sample:
    """The caption and the first picture; the row's other fields go along."""
    from data_tools.io.fields import is_record

    place = row.source
    known = {"__members__", *((place.caption_key, *place.image_keys) if place else ())}
    meta = row.meta["meta"] if is_record(row.meta) else {key: value for key, value in row.meta.items() if key not in known}
    return replace(row, messages=(), images=images[:1], caption=row.caption or "", source=None, meta=meta)


def _asked(run: Session, config: AitqeDataConfig, name: str, stage: Any, before: list[str]) -> Step:
    """A stage in which the judge is asked."""
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        judge = run.models.get(config.judge, "generate", name)
        return run_stage(stage(run.root, config, judge.generate, judge.describe(), judge.block), at, watch)

    part = config.contrast if name == "contrasts" else config.scoring
    options = {"attempts": config.attempts, "seed": config.seed, **({} if name == "scored" else {"good_from": config.good_from})}
    bound = {"model": known_by(config.judge), **part.model_dump(mode="json"), **options}
    return Step(name, bound, inputs(run.root, before, pictures=True), work, lambda: count_lines(run.root / f"{before[-1]}.jsonl"), "rows")


def _rows(run: Session, config: AitqeDataConfig) -> Step:
    from ...rlaif.stage import run_stage
    from .stages import rows_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        return run_stage(rows_stage(run.root, config), at, watch)

    bound = {"good_from": config.good_from, "equal_kinds": config.equal_kinds, "seed": config.seed}
    return Step("aitqe", bound, inputs(run.root, STAGES[:-1]), work, counts="rows")


def dry_run(config: AitqeDataConfig, *, backends: Mapping[str, Backend] | None = None) -> list[str]:
    """What came of the first rows, some of them, and what all would cost; nothing stays on disk."""
    from ..feedback.dry_run import cost, count_of
    from .report import some_rows

    check(config)
    total = count_of(_shards(config), config.limit)
    few = config.model_copy(update={"limit": min(DRY_ROWS, config.limit or DRY_ROWS), "overwrite": False})
    with tempfile.TemporaryDirectory(prefix="mmalign-dry-run-") as folder, opened(Path(folder), few, backends) as started:
        started.quiet = True
        for make in steps(started, few):
            started.do(make())
        rows = started.summaries["samples"]["rows"]
        return [*started.lines, *some_rows(started.root), *cost(started, config, rows, total)]
