"""The files that rows of pairs lie in: JSON Lines, one JSON array, Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..io.face import write
from ..io.fields import Row
from ..io.jsonl import dump, json_row
from ..io.paths import SourceError
from ..io.shard import Shard
from ..io.writer import FileWriter, Writer
from ..records import Rejected, Sample


def rows(shard: Shard) -> Iterator[Row | Rejected]:
    """Rows of a shard as they are. Raises SourceError for a kind of file that holds no pairs."""
    if shard.format == "jsonl":
        from ..io.jsonl import rows as read_rows
    elif shard.format == "parquet":
        from ..io.parquet import rows as read_rows
    else:
        raise SourceError(
            f"{shard.path} is a source of kind {shard.format}; preference pairs are read from .jsonl, .json and .parquet files."
        )
    return read_rows(shard)


def writer(path: str | Path, schema: Callable[[], Any] | None) -> Writer:
    """A writer by the suffix of `path`; `schema` makes the Arrow schema of the columns whose types are given."""
    suffix = Path(path).suffix
    if suffix == ".json":
        return ArrayWriter(path)
    if suffix == ".parquet":
        return write(path, "parquet", schema_hint=schema() if schema else None)
    return write(path, "jsonl")


class ArrayWriter(FileWriter):
    """One JSON array, a row a line."""

    format = "jsonl"
    before = b"[\n"

    def add(self, sample: Sample) -> None:
        self.file.write(self.before + dump(json_row(sample)).rstrip(b"\n"))
        self.before = b",\n"

    def finish(self) -> None:
        self.file.write(b"\n]\n" if self.before == b",\n" else b"[]\n")
        super().finish()
