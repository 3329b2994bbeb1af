"""Pass 1 over a shard: what the step decides about each row is journaled, block by block."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator

from ..calls import CallFailed
from ..disk.journal import Entry, Journal, read_entries, read_lines
from ..io import Shard
from ..records import Sample, Source, Verdict
from .blocks import Prepared, journaled, refusal
from .directory import RunDir, RunStopped
from .plan import Plan, Watch, outcome
from .steady import steady

log = logging.getLogger(__name__)

FAILURES = 3  # rows in a row for which the model fails for no fault of theirs: then the model is gone, not the row
VERDICT_FIELDS = tuple(f.name for f in dataclasses.fields(Verdict))


def judge_shard(shard: Shard, plan: Plan, run_dir: RunDir, watch: Watch, *, limit: int | None = None) -> None:
    """Pass 1: journal a verdict or a rejection for every row that the journal does not hold yet."""
    path = run_dir.journal(shard.name)
    with steady(shard, run_dir), Journal(path) as journal:
        if journal.rows:
            watch.counts.update(outcome(entry) for entry in read_entries(path))
        judged = journaled(shard, plan, journal, lambda block: judge_block(block, plan, watch), limit)
        for entries in _by_scan(shard, plan, run_dir, journal, watch) if plan.by_scan else judged:
            watch.block(shard, entries)
            watch.check()


def _by_scan(shard: Shard, plan: Plan, run_dir: RunDir, journal: Journal, watch: Watch) -> Iterator[list[Entry]]:
    """As `journaled`, of the rows that were scanned: the source is not read once more."""
    for line in () if journal.complete else read_lines(run_dir.scan_journal(shard.name)):
        rows = range(max(line.row, journal.rows), line.row + line.n)
        if rows:
            entries = _timed([Sample("", source=Source(shard.name, row)) for row in rows], plan, watch)
            journal.append(entries, line.ids[-8 * len(rows) :])
            yield entries
    if not journal.complete:
        journal.finish()


def judge_block(block: list[Prepared], plan: Plan, watch: Watch) -> list[Entry]:
    """One entry a row, in order."""
    answers = iter(_timed([row.sample for row in block if row.sample is not None], plan, watch))
    return [row.refused if row.refused is not None else next(answers) for row in block]


def _timed(samples: list[Sample], plan: Plan, watch: Watch) -> list[Entry]:
    started = time.perf_counter()
    answers = asked(samples, plan)
    watch.step_seconds += time.perf_counter() - started
    return answers


def asked(samples: list[Sample], plan: Plan) -> list[Entry]:
    """The step's entries; where its model fails, each row's own, so that one bad row takes no other with it.

    Raises RunStopped when rows fail one after the other for no fault of theirs, or the model is gone: nothing of the block is
    journaled then.
    """
    try:
        return _decided(samples, plan)
    except CallFailed as error:
        if error.gone:
            raise _stopped(error, "the model is gone") from error
        log.warning("the model failed for a block of %d rows (%s); asking row by row", len(samples), error)
    entries, in_a_row = [], 0
    for sample in samples:
        try:
            entries += _decided([sample], plan)
            in_a_row = 0
        except CallFailed as error:
            in_a_row += error.again
            if error.gone or in_a_row >= FAILURES:
                raise _stopped(error, "the model is gone" if error.gone else f"the model failed {FAILURES} times in a row") from error
            entries.append(refusal("call_failed", str(error)))
    return entries


def _stopped(error: CallFailed, why: str) -> RunStopped:
    return RunStopped(f"{why} ({error}); see to it, then run the same command to continue")


def _decided(samples: list[Sample], plan: Plan) -> list[Entry]:
    verdicts = plan.step(samples) if samples else ()
    if len(verdicts) != len(samples):
        raise ValueError(f"the step returned {len(verdicts)} verdicts for {len(samples)} samples; it must return one each, in order")
    return [_entry(verdict) for verdict in verdicts]


def _entry(verdict: Verdict) -> Entry:
    """The verdict's fields that say something. (`to_dict` copies deeply, which would cost as much as decoding the picture.)"""
    values = ((name, getattr(verdict, name)) for name in VERDICT_FIELDS)
    return {name: value for name, value in values if value is not None and value != "" and value != {} and value != ()}
