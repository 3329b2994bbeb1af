"""The face of reading and writing: one `read` and one `write` for every format."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from ..records import Rejected, Sample
from .fields import Wanted
from .manifest import image_root_of
from .paths import SourceError
from .shard import Shard
from .writer import Writer

FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {  # its module of this folder, the suffixes of its files, the first of what we write
    "jsonl": ("jsonl", (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")),
    "parquet": ("parquet", (".parquet", ".pq")),
    "webdataset": ("webdataset", (".tar", ".tar.gz", ".tgz")),
    "folder": ("folder", ()),
    "hf": ("hf_datasets", ()),
}


def read(
    shard: Shard,
    *,
    caption_key: str | None = None,
    image_key: str | None = None,
    image_root: str | None = None,
    limit: int | None = None,
    skip: int = 0,
    conversations_first: bool = False,
    caption_optional: bool = False,
    videos: bool = False,
) -> Iterator[Sample | Rejected]:
    """Rows of a shard in file order, numbered from 0, rejected ones included; streaming, pictures not decoded.

    `skip` passes over that many rows without building them; `limit` ends after that many. `conversations_first`: of a row with
    a caption and a conversation, the conversation is read (by default the caption is). `caption_optional`: a row without
    the caption field is a sample whose caption is None (by default it is Rejected). `videos`: films of conversations are read
    by their paths (by default such rows are Rejected, or read without them). A shard that is broken yields what it holds and a
    Rejected. Raises OSError when its file is gone, SourceError when its store or format is unknown.
    """
    wanted = Wanted(caption_key, image_key, image_root_of(shard, image_root), conversations_first, caption_optional, videos)
    return islice(_module(shard.format).read(shard, wanted, skip), limit)


def write(path: str | Path, format: str, *, schema_hint: Any = None) -> Writer:
    """A context manager with `add(sample)`; the shard appears under `path` only when the block ends without an exception.

    `schema_hint`: a pyarrow Schema or the source `Shard` whose column types to keep (parquet and hf; others ignore it).
    A row written in its own format keeps all fields but its caption. In another format its pictures are embedded (parquet, hf:
    {bytes, path}; webdataset: a member; jsonl from tars and tables: base64), except that jsonl keeps paths it can refer to.
    Only local targets can be written: object stores have no atomic rename. Raises SourceError.
    """
    writer: Writer = _module(format).Writer(path, schema_hint)
    return writer


def extension(format: str) -> str:
    """The suffix of a shard file with its dot; "" for formats that are folders."""
    return next(iter(_entry(format)[1]), "")


def _module(format: str) -> ModuleType:
    return import_module(f".{_entry(format)[0]}", __package__)


def _entry(format: str) -> tuple[str, tuple[str, ...]]:
    if format not in FORMATS:
        raise SourceError(f"Unknown format {format!r}; known: {', '.join(FORMATS)}.")
    return FORMATS[format]
