"""The rows of a benchmark's data: each one can be asked and has an id of its own, or the benchmark cannot be built."""

from __future__ import annotations

from itertools import islice
from typing import Any

from data_tools.io import list_shards, read
from data_tools.records import Rejected, Sample


def rows_to_ask(data: str, *, limit: int | None = None, **options: Any) -> list[Sample]:
    """The first `limit` rows of `data`; `options` as `data_tools.io.read` takes them. Pictures are not decoded.

    Raises ValueError for a row that cannot be read, for two of the same id, and for no row.
    """
    shards = list_shards(data)
    found = [_accepted(row) for row in islice((row for shard in shards for row in read(shard, **options)), limit)]
    if not found:
        raise ValueError(f"{data} has no rows to ask")
    if len({row.id for row in found}) < len(found):
        raise ValueError(f"{data} has rows of the same id; give each question an id of its own")
    return found


def _accepted(row: Sample | Rejected) -> Sample:
    if isinstance(row, Rejected):
        raise ValueError(f"row {row.source.row} of {row.source.shard} cannot be asked: {row.detail or row.reason}")
    return row
