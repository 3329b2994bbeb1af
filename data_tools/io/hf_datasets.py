"""Hugging Face datasets: folders of `save_to_disk` (read and written by pyarrow alone) and `datasets:NAME` (streamed)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qs

import pyarrow as pa

from ..disk.durable import sync
from ..records import Rejected, Sample
from .columns import Columns, rows_in
from .fields import Wanted, sample_of
from .paths import SourceError, join, open_bytes
from .refusals import rejected
from .schema import data_files, keeps_pictures, schema_from
from .shard import Shard
from .writer import Writer as BaseWriter

HUB = "datasets:"
DATA_FILE = "data-00000-of-00001.arrow"
BROKEN = (pa.ArrowException, OSError, EOFError, ValueError)
SLICE = 64  # rows turned into Python objects at a time


def read(shard: Shard, wanted: Wanted, skip: int = 0) -> Iterator[Sample | Rejected]:
    """Rows of a saved dataset or of `datasets:NAME`; picture columns are not decoded. A break inside is one Rejected."""
    if shard.path.startswith(HUB):
        yield from read_dataset(open_hub(shard.path), shard, wanted, skip)
        return
    row = 0
    try:
        for name in data_files(shard.path):
            with open_bytes(join(shard.path, name)) as raw:
                for batch in pa.ipc.open_stream(raw):
                    if row + batch.num_rows > skip:
                        yield from _batch(batch, row, max(skip, row), shard, wanted)
                    row += batch.num_rows
    except BROKEN as error:
        yield rejected(shard.name, row, "hf", "shard_unreadable", f"{type(error).__name__}: {error}"[:500])


def _batch(batch: pa.RecordBatch, row: int, first: int, shard: Shard, wanted: Wanted) -> Iterator[Sample | Rejected]:
    for start in range(first - row, batch.num_rows, SLICE):
        for offset, meta in enumerate(rows_in(batch.slice(start, SLICE))):
            yield sample_of(meta, shard.name, row + start + offset, "hf", wanted)


def read_dataset(ds: Any, shard: Shard | None = None, wanted: Wanted | None = None, skip: int = 0) -> Iterator[Sample | Rejected]:
    """Rows of a `datasets.Dataset` or `IterableDataset` object. Picture, audio and video columns stay encoded."""
    shard, wanted = shard or Shard("", "hf", "dataset"), wanted or Wanted()
    rows = iter(_undecoded(ds).skip(skip) if skip else _undecoded(ds))
    number = skip
    while True:
        try:
            meta = next(rows, None)
        except (*BROKEN, *_dataset_errors()) as error:
            yield rejected(shard.name, number, "hf", "shard_unreadable", f"{type(error).__name__}: {error}"[:500])
            return
        if meta is None:
            return
        yield sample_of(dict(meta), shard.name, number, "hf", wanted)
        number += 1


def _undecoded(ds: Any) -> Any:
    """Works for nested features too, which `cast_column` does not reach."""
    if ds.features is None:  # streamed with types unknown: nothing would decode them
        return ds
    if hasattr(ds, "decode"):
        return ds.decode(False)
    import datasets

    kinds = (datasets.Image, datasets.Audio, datasets.Video)
    for name, feature in ds.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, kinds):
            off = type(inner)(decode=False)
            ds = ds.cast_column(name, off if inner is feature else datasets.List(off))
    return ds


def _dataset_errors() -> tuple[type[Exception], ...]:
    from datasets.exceptions import DatasetsError

    return (DatasetsError,)


# datasets:NAME


class HubPath(NamedTuple):
    """`datasets:NAME[@config][:split][?data_files=...&data_dir=...&revision=...]`, taken apart."""

    name: str
    config: str | None
    split: str | None
    options: Mapping[str, str]


def parse_hub(path: str) -> HubPath:
    """Raises SourceError for unknown options."""
    spec, _, query = path.removeprefix(HUB).partition("?")
    options = {k: v[-1] for k, v in parse_qs(query).items()}
    unknown = set(options) - {"data_files", "data_dir", "revision"}
    if unknown or not spec:
        raise SourceError(f"Cannot read {path}: expected datasets:NAME[@config][:split][?data_files=...&data_dir=...&revision=...].")
    name, _, split = spec.partition(":")
    name, _, config = name.partition("@")
    return HubPath(name, config or None, split or None, options)


def list_hub(path: str) -> list[tuple[str, str, str]]:
    """(path, "hf", name) of one split, or of every split when none is named; of a path, the name holds the last folder. Raises
    SourceError."""
    hub = parse_hub(path)
    name = hub.name.rstrip("/").rpartition("/")[2]
    if hub.split:
        return [(path, "hf", f"{name}-{hub.split}")]
    spec, _, query = path.partition("?")
    tail = f"?{query}" if query else ""
    return [(f"{spec}:{split}{tail}", "hf", f"{name}-{split}") for split in _load(hub)]


def open_hub(path: str) -> Any:
    return _load(parse_hub(path))


def _load(hub: HubPath) -> Any:
    import datasets

    try:
        return datasets.load_dataset(hub.name, hub.config, split=hub.split, streaming=True, **hub.options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise SourceError(f"datasets cannot open {hub.name!r}: {type(error).__name__}: {error}") from error


# Writing


class Writer(BaseWriter):
    """Writes a folder for `datasets.load_from_disk`: one Arrow file in pieces of about 16 MB. See `Columns` for the types."""

    format = "hf"

    def __init__(self, path: str | Path, schema_hint: Any = None) -> None:
        super().__init__(path)
        self.schema = schema_from(schema_hint)
        self.keep = keeps_pictures(schema_hint, self.format)

    def begin(self) -> None:
        self.temporary.mkdir()
        self.columns = Columns(self.temporary / DATA_FILE, self.schema, _sink, _stored, self.keep)

    def add(self, sample: Sample) -> None:
        self.columns.add(sample)

    def finish(self) -> None:
        file = self.columns.close()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        info = {"citation": "", "description": "", "features": None, "homepage": "", "license": ""}
        self._put("dataset_info.json", info)
        self._put("state.json", _state(self.temporary / DATA_FILE))
        sync(self.temporary)

    def release(self) -> None:
        self.columns.release()

    def _put(self, name: str, body: Mapping[str, Any]) -> None:
        path = self.temporary / name
        path.write_text(json.dumps(body, indent=2, sort_keys=True), encoding="utf-8")
        sync(path)


def _state(data: Path) -> dict[str, Any]:
    """The fingerprint is the hash of the data, so that caches of `datasets.map` follow the content."""
    with data.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    formats: dict[str, Any] = {"_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False}
    return {"_data_files": [{"filename": DATA_FILE}], "_fingerprint": fingerprint, "_split": None, **formats}


def _sink(file: IO[bytes], schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
    return pa.ipc.new_stream(file, schema)


def _stored(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        yield from pa.ipc.open_stream(file)
