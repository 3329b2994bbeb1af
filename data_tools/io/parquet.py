"""Parquet: pictures as bytes, as paths, or in the layout of datasets.Image; column types and metadata are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..records import Rejected, Sample
from .columns import Columns, batch_rows, rows_in, shallow
from .fields import Row, Wanted, sample_of
from .paths import open_bytes
from .refusals import rejected
from .schema import keeps_pictures, schema_from
from .shard import Shard
from .writer import FileWriter

BROKEN = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, ValueError)


def read(shard: Shard, wanted: Wanted, skip: int = 0) -> Iterator[Sample | Rejected]:
    """Rows of a Parquet file as samples."""
    for item in rows(shard, skip):
        yield item if isinstance(item, Rejected) else sample_of(item.meta, shard.name, item.number, "parquet", wanted)


def rows(shard: Shard, skip: int = 0) -> Iterator[Row | Rejected]:
    """Rows of a Parquet file as they are, a few MB at a time however large its row groups. `skip` passes over whole row groups unread.

    A file that cannot be opened is one Rejected (shard_unreadable); every row of a broken row group is one (row_group_unreadable).
    """
    with open_bytes(shard.path) as raw:
        try:
            file = pq.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20)
        except BROKEN as error:
            yield rejected(shard.name, 0, "parquet", "shard_unreadable", f"{type(error).__name__}: {error}"[:500])
            return
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if start + count > skip:
                yield from _group(file, group, start, max(skip, start), shard)
            start += count


def _group(file: pq.ParquetFile, group: int, start: int, first: int, shard: Shard) -> Iterator[Row | Rejected]:
    about = file.metadata.row_group(group)
    row, problem = start, "it holds fewer rows than its header says"
    batches = file.iter_batches(batch_rows(about.num_rows, about.total_byte_size), row_groups=[group], use_threads=False)
    while True:
        try:
            batch = next(batches, None)
            metas = [] if batch is None else rows_in(batch.slice(max(0, first - row)))
        except BROKEN as error:
            problem, batch = f"{type(error).__name__}: {error}"[:500], None
        if batch is None:
            break
        at = row + batch.num_rows - len(metas)
        row += batch.num_rows
        for offset, meta in enumerate(metas):
            yield Row(at + offset, meta)
    for lost in range(max(row, first), start + about.num_rows):
        yield rejected(shard.name, lost, "parquet", "row_group_unreadable", f"row group {group}: {problem}")


class Writer(FileWriter):
    """Writes row groups of at most 2,048 rows or about 16 MB, zstd, with fixed settings. See `Columns` for the types.

    `schema_hint`: a pyarrow Schema or a Shard whose schema to keep.
    """

    format = "parquet"

    def __init__(self, path: str | Path, schema_hint: Any = None) -> None:
        super().__init__(path)
        self.schema = schema_from(schema_hint)
        self.keep = keeps_pictures(schema_hint, self.format)
        if self.schema is not None and not self.keep:
            self.schema = shallow(self.schema)

    def begin(self) -> None:
        self.columns = Columns(self.temporary, self.schema, _sink, _stored, self.keep)

    def add(self, sample: Sample) -> None:
        self.columns.add(sample)

    def finish(self) -> None:
        file = self.columns.close()
        file.flush()
        os.fsync(file.fileno())
        file.close()

    def release(self) -> None:
        self.columns.release()


def _sink(file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """Pages end only between write batches: small ones let readers stream columns of pictures."""
    return pq.ParquetWriter(file, schema, compression="zstd", version="2.6", write_batch_size=64)


def _stored(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.iter_batches(row_groups=[group], use_threads=False)
