"""JSON Lines: one object a line, pictures as paths beside the file or embedded as base64."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from ..records import Rejected, Sample
from .fields import Row, Wanted, image_keys_of, row_of, sample_of
from .json_array import elements, is_array
from .paths import open_bytes
from .picture_values import struct_of
from .refusals import RAW_LIMIT, RowError, rejected
from .shard import Shard
from .writer import FileWriter

MAX_LINE = 1 << 28  # bytes; a longer line is rejected instead of filling the memory
BOM = b"\xef\xbb\xbf"


def read(shard: Shard, wanted: Wanted, skip: int = 0) -> Iterator[Sample | Rejected]:
    """Rows of a JSONL file, or of a `.json` file that is one array, as samples."""
    for item in rows(shard, skip):
        yield item if isinstance(item, Rejected) else sample_of(item.meta, shard.name, item.number, "jsonl", wanted)


def rows(shard: Shard, skip: int = 0) -> Iterator[Row | Rejected]:
    """Rows of a JSONL file, or of a `.json` file that is one array, as they are. Blank lines are no rows.

    Broken lines, bytes that are not UTF-8 and non-objects are Rejected.
    """
    row = 0
    try:
        with open_lines(shard.path) as file:
            if shard.path.endswith(".json") and is_array(file):
                yield from _array(file, shard, skip)
                return
            for line in lines(file):
                if row >= skip:
                    yield parse(line, shard, row)
                row += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield rejected(shard.name, row, "jsonl", "shard_truncated", f"the compressed file ends or breaks here: {error}")


def _array(file: IO[bytes], shard: Shard, skip: int) -> Iterator[Row | Rejected]:
    row = 0
    try:
        for value in elements(file):
            if row >= skip:
                yield _object(value, shard, row, value)
            row += 1
    except RowError as error:
        yield rejected(shard.name, row, "jsonl", error.reason, error.detail)


def open_lines(path: str) -> IO[bytes]:
    raw = open_bytes(path)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if path.endswith(".gz") else raw


def lines(file: IO[bytes]) -> Iterator[bytes]:
    """Non-blank lines without the byte order mark; of an overlong line its first MAX_LINE + 1 bytes."""
    first = True
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            _skip_rest(file)
        if first and line.startswith(BOM):
            line = line[len(BOM) :]
        first = False
        if line.strip():
            yield line


def _skip_rest(file: IO[bytes]) -> None:
    while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
        pass


def parse(line: bytes, shard: Shard, row: int) -> Row | Rejected:
    if len(line) > MAX_LINE:
        return _refuse(shard, row, "line_too_long", f"more than {MAX_LINE} bytes in one line", line)
    try:
        meta = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _refuse(shard, row, "not_utf8", f"byte {error.start} is not UTF-8: {error.reason}", line)
    except (ValueError, RecursionError) as error:
        return _refuse(shard, row, "bad_json", f"not JSON: {error}", line)
    return _object(meta, shard, row, line)


def _object(meta: Any, shard: Shard, row: int, raw: Any) -> Row | Rejected:
    if not isinstance(meta, dict):
        line = raw if isinstance(raw, bytes) else json.dumps(raw).encode("ascii")
        return _refuse(shard, row, "not_an_object", f"a row should be a JSON object, found {type(meta).__name__}", line)
    return Row(row, meta)


def _refuse(shard: Shard, row: int, reason: str, detail: str, line: bytes) -> Rejected:
    return rejected(shard.name, row, "jsonl", reason, detail, line[: 4 * RAW_LIMIT].decode("utf-8", "backslashreplace"))


class Writer(FileWriter):
    """Writes rows as they were read; binary values of other formats become base64, pictures {"bytes": base64, "path"}."""

    format = "jsonl"

    def __init__(self, path: str | Path, schema_hint: Any = None) -> None:
        super().__init__(path)

    def add(self, sample: Sample) -> None:
        self.file.write(dump(json_row(sample)))


def json_row(sample: Sample) -> dict[str, Any]:
    """The row without the things only other formats know: tar members become fields.

    Members that are in the row already go: the pictures, the txt and the json member (whose keys that the row does not show become
    `json.KEY`). The picture takes the field that readers look in first, and keeps the path that stood there; a field there that is
    no path stays, with the picture's member beside it.
    """
    row = row_of(sample)
    if "__members__" not in row:
        return row
    members = row.pop("__members__")
    known = {k for k in members if k.lower() in ("txt", "json")}
    key = picture_key(sample)
    if sample.images and isinstance(row.get(key), str | None):
        named = {"path": row[key]} if row.get(key) and len(sample.images) == 1 else {}
        embedded = [struct_of(i) | named for i in sample.images]
        row[key] = embedded[0] if len(embedded) == 1 else embedded
        known.update(image_keys_of(sample))
    hidden = {f"json.{k}": v for k, v in _hidden(members).items()}
    return row | {k: v for k, v in (hidden | members).items() if k not in row and k not in known and v is not None}


def picture_key(sample: Sample) -> str:
    """The field that the pictures of a tar's row move to."""
    return "image" if len(sample.images) == 1 else "images"


def _hidden(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Fields of the json member that its row cannot show, as the key or the txt member has their name."""
    data = next((v for k, v in members.items() if k.lower() == "json"), b"")
    names = [n for n in ("__key__", *(k.lower() for k in members if k.lower() == "txt")) if f'"{n}"'.encode() in data]
    fields = json.loads(data) if names else {}
    return {n: fields[n] for n in names if n in fields}


def dump(row: Mapping[str, Any]) -> bytes:
    """One line. Text stays as it is; half surrogate pairs, which UTF-8 cannot hold, stay escaped."""
    try:
        return json.dumps(row, ensure_ascii=False, default=plain).encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, default=plain).encode("ascii") + b"\n"


def plain(value: Any) -> Any:
    """What JSON has no word for: bytes as base64, mappings as objects, times as ISO text, other numbers as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
