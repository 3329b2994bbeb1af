"""The Arrow schema of a shard that has one, so that a writer can keep its column types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .paths import SourceError, join, open_bytes
from .shard import Shard


def schema_from(hint: Any) -> pa.Schema | None:
    """A Schema as it is, a Shard as its schema, None as None. Raises SourceError for anything else."""
    if isinstance(hint, Shard):
        return schema_of(hint)
    if hint is None or isinstance(hint, pa.Schema):
        return hint
    raise SourceError(f"schema_hint should be a pyarrow Schema or a Shard, found {type(hint).__name__}.")


def keeps_pictures(hint: Any, format: str) -> bool:
    """Whether picture columns of the hint stay as they are: paths do not move to another format, their pictures are embedded."""
    return not isinstance(hint, Shard) or hint.format == format


def schema_of(shard: Shard) -> pa.Schema | None:
    """The schema of a Parquet or saved-dataset shard with its metadata; None for other formats and for files that cannot be read."""
    try:
        if shard.format == "parquet":
            with open_bytes(shard.path) as raw:
                return pq.ParquetFile(raw).schema_arrow
        if shard.format == "hf" and not shard.path.startswith("datasets:"):
            with open_bytes(join(shard.path, first_file(shard.path))) as raw:
                return pa.ipc.open_stream(raw).schema
    except (pa.ArrowException, OSError):
        return None
    return None


def first_file(folder: str) -> str:
    return data_files(folder)[0]


def data_files(folder: str) -> list[str]:
    """Names of the Arrow files of a saved dataset in order. Raises SourceError when its state cannot be understood."""
    with open_bytes(join(folder, "state.json")) as raw:
        try:
            state = json.loads(raw.read().decode("utf-8"))
            names = [str(Path(f["filename"]).name) for f in state["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{folder}/state.json is not what datasets.save_to_disk writes: {error!r}") from error
    if state.get("_indices_data_files") or not names:
        raise SourceError(f"{folder} was saved by datasets < 2 or is empty; load it with that version and save it again.")
    return names
