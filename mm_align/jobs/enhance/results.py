"""What `mmalign enhance-data` came to: the report a caller gets, and the files that tell of it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..endpoint_costs import spent_in as usage_of
from ..endpoint_fields import usage_line
from .cascade import line as cascade_line
from .cascade import told as cascade_told

if TYPE_CHECKING:
    from data_tools.io import Shard
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Summary

    from .config import EnhanceConfig

log = logging.getLogger(__name__)
LOST = ("shard_unreadable", "shard_truncated")  # reasons for which rows are missing that nobody could count


@dataclass(frozen=True)
class EnhanceReport:
    """What a run came to. `summary` is None after a dry run, `table` what that one shows; `fresh_rows` were judged by this call."""

    out: Path
    summary: Summary | None
    fresh_rows: int = 0
    step_seconds: float = 0.0
    seconds: float = 0.0
    table: Sequence[str] = ()
    cascade: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None

    @property
    def lost(self) -> int:
        """Shards that could not be read to their end, so that nobody knows how many rows are missing."""
        return sum(self.summary.reasons.get(reason, 0) for reason in LOST) if self.summary else 0

    @property
    def exit_code(self) -> int:
        """0, or that of bad input where a shard could not be opened; all others are done then."""
        return 2 if self.summary and self.summary.reasons.get(LOST[0]) else 0

    def lines(self) -> list[str]:
        """The result for people: the identity of rows, what left and why, where the report is."""
        s = self.summary
        if s is None:
            return list(self.table)
        lines = [f"{s.rows} rows in = {s.kept} kept + {s.rewritten} rewritten + {s.quarantined} quarantined"]
        if s.reasons:
            lines.append("quarantined: " + ", ".join(f"{n} {reason}" for reason, n in s.reasons.items()))
        if self.lost:
            some = f"{self.lost} shard{'s' if self.lost > 1 else ''}"
            where = f"see reasons {' and '.join(LOST)} in {self.out / 'quarantine'}"
            lines.append(f"{some} could not be read to the end, and nobody knows how many rows are missing: {where}")
        if s.duplicates:
            lines.append(f"{s.duplicates} rows have an id that came before: " + "; ".join(s.first_duplicates[:3]))
        if self.cascade:
            lines.append(cascade_line(self.cascade))
        if self.usage:
            lines.append(usage_line(self.usage))
        if self.fresh_rows:
            lines.append(f"{self.fresh_rows} rows judged in {self.seconds:.1f} s ({self.fresh_rows / self.seconds:.1f} rows/s)")
        return [*lines, f"report: {self.out / 'report.html'}"]


class Judged(NamedTuple):
    """What came of judging all rows: the summary, what the report says of model, policy, filters and data, when judging began (the clock
    of `time.monotonic`)."""

    summary: Summary
    told: dict[str, Any]
    started: float


def conclude(
    config: EnhanceConfig, shards: Sequence[Shard], spent_in: Sequence[RunDir], report: EnhanceReport, told: Mapping[str, Any]
) -> EnhanceReport:
    """Once every row is judged: the report with what the cascade and the endpoints came to, the files that tell of it, nothing left over.

    spent_in: the run's folder, and those of the slices that it was merged from, whose processes asked endpoints.
    """
    from ...backends.request_cache import RequestCache

    run_dir, summary = spent_in[0], report.summary
    assert summary is not None
    cascade = cascade_told(shards, run_dir) if config.cascade else None
    usage = usage_of(config, (place.usage for place in spent_in))
    report = dataclasses.replace(report, cascade=cascade, usage=usage)
    more = {"cascade": cascade, "endpoint": usage}
    _write_results(config, shards, run_dir, report, {**told, **{name: value for name, value in more.items() if value}})
    if config.request_cache == "run":
        RequestCache.delete(run_dir.requests)  # every answer is in the journal
    _warn_of_nothing(run_dir, shards, summary)
    return report


def _write_results(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, report: EnhanceReport, told: dict[str, Any]) -> None:
    """The report, the manifest by which the output is read again, and the mark that the run is finished."""
    from data_tools.io import image_root_of, write_manifest
    from data_tools.pipeline import merged_stats
    from data_tools.report import write_report

    summary = report.summary
    assert summary is not None
    told |= {"source": config.source, "output": config.out, "rows_in": summary.rows, "config": config.model_dump(mode="json")}
    told |= {"resolved": run_dir.record["resolved"], "timing": _timing(report), "duplicates": summary.first_duplicates}
    write_report(run_dir.root, merged_stats(shards, run_dir, config.seed), title="Caption enhancement", run=told)
    if config.uid_key is not None:
        _write_uids(shards, run_dir)
    roots = {shard.name: image_root_of(shard, config.image_root) for shard in shards}
    write_manifest(run_dir.root, roots, config.format or shards[0].format)
    run_dir.finish(summary.to_dict())


def _write_uids(shards: Sequence[Shard], run_dir: RunDir) -> None:
    """The uids of all rows that stayed, for DataComp's resharder; a shard behind --limit has none."""
    import numpy as np

    from data_tools.run.uids import UID, write_uids

    parts = [np.fromfile(path, UID) for shard in shards if (path := run_dir.uids(shard.name)).is_file()]
    log.info("%d uids: %s", write_uids(run_dir.root / "uids.npy", parts), run_dir.root / "uids.npy")


def _warn_of_nothing(run_dir: RunDir, shards: Sequence[Shard], summary: Summary) -> None:
    """Say plainly when every row is in quarantine, and of the first one why: often an option misspelt; and when there is no row."""
    if not summary.rows:
        log.warning("WARNING: the source holds no row, so nothing came out")
    if summary.out or not summary.quarantined:
        return
    reasons, first = ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items()), _first_gone(run_dir, shards)
    log.warning("WARNING: nothing came out: all %d rows are in quarantine (%s). %s", summary.quarantined, reasons, first)


def _first_gone(run_dir: RunDir, shards: Sequence[Shard]) -> str:
    paths = (run_dir.quarantine(shard.name) for shard in shards)
    with next(path for path in paths if path.is_file() and path.stat().st_size).open(encoding="utf-8") as file:
        first = json.loads(file.readline())
    return f"The first: {first['detail']}{_fields(first.get('raw') or '')}. Are --caption-key, --image-key and --image-root right?"


def _fields(raw: str) -> str:
    """The names of the fields in the quarantine's excerpt of a row, where that is whole."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    return f" (fields of the row: {', '.join(row)})" if isinstance(row, dict) else ""


def _timing(report: EnhanceReport) -> dict[str, float]:
    """Of this start alone, as the names say; an earlier start of the same run is not in it."""
    rate = report.fresh_rows / report.seconds if report.seconds else 0.0
    return {
        "this_start_seconds": round(report.seconds, 3),
        "this_start_model_seconds": round(report.step_seconds, 3),
        "this_start_rows_judged": report.fresh_rows,
        "this_start_rows_per_second": round(rate, 2),
    }
