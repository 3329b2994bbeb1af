"""`mmalign enhance-data --dry-run`: the first rows judged and shown, the cost of all estimated, nothing written."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .enhance_setup import load_model, make_plan, make_step
from .enhance_source import about_data, first_samples, refuse_taken_fields

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.io import Shard
    from data_tools.records import Sample, Verdict

    from .enhance import EnhanceConfig

log = logging.getLogger(__name__)
DRY_ROWS = 20


def dry_run(config: EnhanceConfig, shards: Sequence[Shard], backend: Backend | None) -> list[str]:
    """A line for each of the first rows as judged, and one with what all would cost; writes nothing."""
    from data_tools.io import BadImage, decode

    from .progress import count_rows

    backend = backend or load_model(config, {})
    plan = make_plan(config, make_step(config, backend), backend, DRY_ROWS)
    refuse_taken_fields(shards, plan)
    about_data(config, shards, plan, backend)
    samples = []
    for sample in first_samples(shards, plan, min(DRY_ROWS, config.limit or DRY_ROWS)):
        try:
            samples.append(replace(sample, images=tuple(decode(image, max_pixels=config.max_pixels) for image in sample.images)))
        except BadImage as error:
            log.warning("row %s would go to quarantine: %s", sample.source.row if sample.source else "?", error)
    started = time.monotonic()
    verdicts = plan.step(samples)
    seconds = time.monotonic() - started
    table = [_row(sample, verdict) for sample, verdict in zip(samples, verdicts, strict=True)]
    return [*table, _cost(len(samples), seconds, config.limit or count_rows(shards))]


def _row(sample: Sample, verdict: Verdict) -> str:
    rewrite = f" -> {_short(verdict.text)}" if verdict.text else ""
    return f"{verdict.action:8} {_shown(verdict.scores.get('overall')):>5}  {_short(sample.caption)}{rewrite}"


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:g}"


def _short(text: str | None) -> str:
    flat = " ".join((text or "").split())
    return repr(flat if len(flat) <= 60 else flat[:57] + "...")


def _cost(rows: int, seconds: float, total: int | None) -> str:
    if not rows:
        return "none of the first rows could be judged"
    asked, what = (total, "rows in all") if total else (1_000_000, "rows")
    hours = seconds / rows * asked / 3600
    return f"dry run: {rows} rows in {seconds:.1f} s of model time; {asked} {what} would take about {hours:.2f} h. Nothing was written."
