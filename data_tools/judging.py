"""Pass 1 over a shard: rows are read in blocks, their pictures decoded, and what the step decides is journaled."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from .calls import CallFailed
from .io import Shard
from .io.images import BadImage, decode, encoded, measured
from .journal import Entry, Journal, read_entries
from .plan import Item, Look, Plan, Watch, outcome
from .records import Image, Rejected, Sample, Verdict
from .shards import RunDir, RunStopped
from .steady import steady
from .uids import uid_of

log = logging.getLogger(__name__)

DETAIL_CHARS = 2_000
DECODERS = int(os.environ.get("MMALIGN_DECODERS", min(4, os.cpu_count() or 1)))  # an engine gives each of its workers its part
FAILURES = 3  # rows in a row for which the model fails for no fault of theirs: then the model is gone, not the row
SLOW_ROW = 0.001  # seconds
NO_ID = b"\0" * 8
VERDICT_FIELDS = tuple(f.name for f in dataclasses.fields(Verdict))


def judge_shard(shard: Shard, plan: Plan, run_dir: RunDir, watch: Watch, *, limit: int | None = None) -> None:
    """Pass 1: journal a verdict or a rejection for every row that the journal does not hold yet."""
    path = run_dir.journal(shard.name)
    with steady(shard, run_dir), Journal(path) as journal:
        if journal.rows:
            watch.counts.update(outcome(entry) for entry in read_entries(path))
        if journal.complete:
            return
        rows = plan.read(shard, skip=journal.rows)
        wanted = rows if limit is None else islice(rows, limit - journal.rows)
        for block in prepared_blocks(wanted, plan):
            entries = judge_block(block, plan, watch)
            journal.append(entries, b"".join(id_hash(row.item) for row in block))
            watch.block(shard, entries)
            watch.check()
        journal.finish()


class Prepared(NamedTuple):
    """A row as it was read, and either the sample with decoded pictures or the entry that refuses it."""

    item: Item
    sample: Sample | None
    refused: Entry | None


def prepared_blocks(items: Iterator[Item], plan: Plan) -> Iterator[list[Prepared]]:
    """Blocks of `plan.block_rows` rows with their pictures as `plan.look` says; while the caller works long on one, the next is made.

    Threads cost small pictures more than they bring (each read hands the interpreter's lock over), so they come in only where
    the last block was slow: `ahead` when the caller took its time, the decoders when the pictures did.
    """
    with ThreadPoolExecutor(DECODERS) as decoders, ThreadPoolExecutor(1) as ahead:
        blocks = _Preparing(items, plan, decoders)
        block = next(blocks, None)
        overlap = False
        while block is not None:
            future = ahead.submit(next, blocks, None) if overlap else None
            started = time.monotonic()
            yield block
            overlap = time.monotonic() - started > SLOW_ROW * len(block)
            block = next(blocks, None) if future is None else future.result()


class _Preparing:
    """Iterator of prepared blocks; notices how long a row takes."""

    def __init__(self, items: Iterator[Item], plan: Plan, decoders: ThreadPoolExecutor) -> None:
        self.items, self.plan, self.decoders = items, plan, decoders
        self.slow = False

    def __iter__(self) -> _Preparing:
        return self

    def __next__(self) -> list[Prepared]:
        rows = list(islice(self.items, self.plan.block_rows))
        if not rows:
            raise StopIteration
        started = time.monotonic()
        block = self._by_threads(rows) if self.slow else [prepare_row(item, self.plan) for item in rows]
        threads = DECODERS if self.slow else 1
        self.slow = (time.monotonic() - started) * threads > SLOW_ROW * len(rows)
        return block

    def _by_threads(self, rows: list[Item]) -> list[Prepared]:
        slices = [rows[start::DECODERS] for start in range(DECODERS)]
        done = list(self.decoders.map(lambda part: [prepare_row(item, self.plan) for item in part], slices))
        return [done[i % DECODERS][i // DECODERS] for i in range(len(rows))]


def prepare_row(item: Item, plan: Plan) -> Prepared:
    """The row as a step may see it, or refused for what the reader, its fields or its pictures say."""
    if isinstance(item, Rejected):
        return Prepared(item, None, _refusal(item.reason, item.detail))
    taken = taken_fields(item, plan)
    if taken:
        return Prepared(item, None, _refusal("field_collision", f"the row already has a field {taken[0]!r}"))
    if not item.images:
        return Prepared(item, None, _refusal("image_missing", "the row names no image"))
    if plan.uid_key is not None:
        try:
            uid_of(item.meta.get(plan.uid_key))
        except ValueError as error:
            return Prepared(item, None, _refusal("no_uid", f"field {plan.uid_key!r}: {error}"))
    look = plan.look(item)
    if look == "nothing" and not plan.loads:
        return Prepared(item, item, None)
    try:
        images = tuple(_looked(image, plan, look) for image in item.images)
    except BadImage as error:
        return Prepared(item, None, _refusal(error.reason, error.detail))
    return Prepared(item, dataclasses.replace(item, images=images), None)


def _looked(image: Image, plan: Plan, look: Look) -> Image:
    if plan.loads and image.data is None:
        image = dataclasses.replace(image, data=encoded(image))
    if look == "nothing":
        return image
    if look == "size":
        return measured(image, max_pixels=plan.max_pixels)
    return decode(image, max_pixels=plan.max_pixels, max_side=plan.max_side, grey=plan.grey, loose=plan.loose, fast=plan.fast_pictures)


def taken_fields(sample: Sample, plan: Plan) -> list[str]:
    """The fields that this run would add and the row already has."""
    return [name for name in plan.added_fields if name in sample.meta]


def judge_block(block: list[Prepared], plan: Plan, watch: Watch) -> list[Entry]:
    """One entry a row, in order."""
    samples = [row.sample for row in block if row.sample is not None]
    started = time.perf_counter()
    answers = iter(asked(samples, plan))
    watch.step_seconds += time.perf_counter() - started
    return [row.refused if row.refused is not None else next(answers) for row in block]


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
            entries.append(_refusal("call_failed", str(error)))
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


def _refusal(reason: str, detail: str) -> Entry:
    return {"rejected": reason, "detail": detail[:DETAIL_CHARS]}


def id_hash(item: Item) -> bytes:
    """The 8 bytes by which the journal knows a row's id; zeros for a row without one."""
    if isinstance(item, Rejected):
        return NO_ID
    digest = blake2b(item.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return digest if digest != NO_ID else b"\1" * 8
