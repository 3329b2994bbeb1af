"""`mmalign enhance-data --dry-run`: the first rows judged and shown, the cost of all estimated, nothing written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..endpoint_costs import estimate_line
from ..endpoint_fields import endpoint_options
from .config import DRY_ROWS
from .setup import load_models, make_plan
from .source import about_data, first_rows, refuse_taken_fields

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.disk.journal import Entry
    from data_tools.io import Shard
    from data_tools.run.blocks import Prepared

    from .config import EnhanceConfig


def dry_run(config: EnhanceConfig, shards: Sequence[Shard], backend: Backend | None) -> list[str]:
    """A line for each of the first rows as judged, and one with what all would cost; writes nothing."""
    from data_tools.run.blocks import prepare_row
    from data_tools.run.judging import asked

    from ..progress import count_rows

    asking = endpoint_options(config)
    models = load_models(config, asking, backend)
    plan = make_plan(config, models, DRY_ROWS)
    refuse_taken_fields(shards, plan)
    about_data(config, shards, plan, models.backend)
    rows = [prepare_row(item, plan) for item in first_rows(shards, plan, min(DRY_ROWS, config.limit or DRY_ROWS))]
    samples = [row.sample for row in rows if row.sample is not None]
    started = time.monotonic()
    entries = iter(asked(samples, plan))
    seconds = time.monotonic() - started
    table = [_row(row, next(entries) if row.refused is None else row.refused, number) for number, row in enumerate(rows)]
    counts, total = asking.usage.to_dict(), config.limit or count_rows(shards)
    spent = [estimate_line(config, counts, len(samples), total)] if samples and counts["answers"] else []
    spared = [_spared(config, total)] if config.cascade else []
    return [*table, *spent, *spared, _cost(len(samples), seconds, total)]


def _spared(config: EnhanceConfig, total: int | None) -> str:
    """What can be said of the cascade before it is calibrated: the figures count every row, and so few could be enough at best."""
    rows = total or 1_000_000
    first = min(config.calibration, rows)
    audit = round(config.audit * (rows - first))
    return (
        f"cascade: these figures are for a model that judges every row. With the cascade it judges at least {first + audit} of {rows} "
        f"({first} to calibrate, {audit} of the audit); how many more, only the calibration can tell"
    )


def _row(row: Prepared, entry: Entry, number: int) -> str:
    if row.sample is None or "rejected" in entry:
        return _gone(entry, number)
    rewrite = f" -> {_short(entry['text'])}" if entry.get("text") else ""
    return f"{entry['action']:8} {_shown(entry.get('scores', {}).get('overall')):>5}  {_short(row.sample.caption)}{rewrite}"


def _gone(refused: Entry, number: int) -> str:
    return f"{'gone':8} {'-':>5}  row {number} would go to quarantine: {refused['rejected']}: {' '.join(refused['detail'].split())[:200]}"


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
