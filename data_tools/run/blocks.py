"""Rows in blocks: read, made ready with their pictures decoded one block ahead, journaled once it is told what becomes of them."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from ..disk.journal import Entry, Journal
from ..io import Shard
from ..io.images import BadImage, decode, encoded, measured
from ..records import Image, Rejected, Sample
from .plan import Item, Look, Plan
from .seen_ids import id_hash
from .uids import uid_of

DETAIL_CHARS = 2_000
DECODERS = int(os.environ.get("MMALIGN_DECODERS", min(4, os.cpu_count() or 1)))  # an engine gives each of its workers its part
SLOW_ROW = 0.001  # seconds


class Prepared(NamedTuple):
    """A row as it was read, and either the sample with decoded pictures or the entry that refuses it."""

    item: Item
    sample: Sample | None
    refused: Entry | None


def journaled(
    shard: Shard, plan: Plan, journal: Journal, told: Callable[[list[Prepared]], list[Entry]], limit: int | None = None
) -> Iterator[list[Entry]]:
    """Journal an entry for every row of a shard that the journal does not hold yet, and its end; each block's entries once they are there.

    told: what becomes of the rows of a block, an entry each. limit: rows of the shard that are wanted.
    """
    if journal.complete:
        return
    rows = plan.read(shard, skip=journal.rows)
    for block in prepared_blocks(rows if limit is None else islice(rows, limit - journal.rows), plan):
        entries = told(block)
        journal.append(entries, ids_of(block))
        yield entries
    journal.finish()


def ids_of(block: list[Prepared]) -> bytes:
    """Eight bytes a row, by which the journal knows its id."""
    return b"".join(id_hash(row.item) for row in block)


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
        return Prepared(item, None, refusal(item.reason, item.detail))
    taken = taken_fields(item, plan)
    if taken:
        return Prepared(item, None, refusal("field_collision", f"the row already has a field {taken[0]!r}"))
    if not item.images:
        return Prepared(item, None, refusal("image_missing", "the row names no image"))
    if plan.uid_key is not None:
        try:
            uid_of(item.meta.get(plan.uid_key))
        except ValueError as error:
            return Prepared(item, None, refusal("no_uid", f"field {plan.uid_key!r}: {error}"))
    look = plan.look(item)
    if look == "nothing" and not plan.loads:
        return Prepared(item, item, None)
    try:
        images = tuple(_looked(image, plan, look) for image in item.images)
    except BadImage as error:
        return Prepared(item, None, refusal(error.reason, error.detail))
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


def refusal(reason: str, detail: str) -> Entry:
    """What the journal holds of a row that goes to quarantine."""
    return {"rejected": reason, "detail": detail[:DETAIL_CHARS]}
