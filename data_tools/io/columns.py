"""Rows as Arrow columns: types kept where a schema is given, found and widened on the way where not, written in bounded pieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from ..records import Image, Sample
from .fields import image_keys_of, row_of
from .jsonl import json_row, picture_key, plain
from .paths import SourceError
from .picture_values import struct_of
from .sidecars import MEMBERS

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # the layout of datasets.Image
JSON_MARK = {b"mmalign": b"json"}  # metadata of a column that holds JSON text
MAX_ROWS, MAX_BYTES = 2048, 1 << 24  # of one written piece
MAX_DEPTH = 20  # of lists in lists; Parquet files of about 50 can be written but not read
MISFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError)


class Sink(Protocol):
    """What takes batches of one schema; `pyarrow.parquet.ParquetWriter` and IPC stream writers both do."""

    def write_batch(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class Columns:
    """Collects rows and writes them in pieces to `path`.

    Columns of `schema` keep their types and order. Other columns get the type of their first values; when later ones do not
    fit, the file is rewritten with a wider type. Objects, mixed values and lists nested over 20 deep become JSON text, marked in
    the column's metadata, so that the types of a shard do not hang on which keys its first rows happened to have; readers here
    parse it back.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema | None,
        open_sink: Callable[[IO[bytes], pa.Schema], Sink],
        stored: Callable[[Path], Iterator[pa.RecordBatch]],
        keep_pictures: bool = True,
    ) -> None:
        self.path, self.open_sink, self.stored = path, open_sink, stored
        self._narrow = path.with_name(path.name + ".narrow")
        self.schema = schema or pa.schema([])
        self.metadata = schema.metadata if schema is not None else None
        self.fixed = frozenset(self.schema.names)
        self.keep_pictures = keep_pictures
        self.rows: list[dict[str, Any]] = []
        self.size = 0
        self.pictures: set[str] = set()
        self.file: IO[bytes] | None = None
        self.sink: Sink | None = None

    def add(self, sample: Sample) -> None:
        row = self._row(sample)
        self.rows.append(row)
        self.size += _weight(row)
        if len(self.rows) >= MAX_ROWS or self.size >= MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        rows, self.rows, self.size = self.rows, [], 0
        fields = {f.name: f for f in self.schema}
        seen = [k for r in rows for k in r]
        names = dict.fromkeys([*seen, *fields] if self.sink is None else [*fields, *seen])  # the first rows set the order
        values = {name: [r.get(name) for r in rows] for name in names}
        fitted = {name: self._fit(name, fields.get(name), column) for name, column in values.items()}
        schema = self._described(pa.schema([f for f, _ in fitted.values()]))
        if self.sink is None or not schema.equals(self.schema, check_metadata=True):
            self._widen(schema)
        assert self.sink is not None
        self.sink.write_batch(pa.RecordBatch.from_arrays([a for _, a in fitted.values()], schema=schema))

    def close(self) -> IO[bytes]:
        """Write what is left and close the sink; the still open file is handed back for syncing."""
        if self.rows or self.sink is None:
            self.flush()
        assert self.sink is not None
        assert self.file is not None
        self.sink.close()
        return self.file

    def release(self) -> None:
        if self.file is not None:
            with suppress(OSError):  # a full disk fails again when the buffer is flushed; the file goes away anyway
                self.file.close()
        self._narrow.unlink(missing_ok=True)

    def _row(self, sample: Sample) -> dict[str, Any]:
        """The row with its pictures embedded, unless their column comes from the source's own schema."""
        from_tar = MEMBERS in sample.meta
        row = json_row(sample) if from_tar else row_of(sample)
        keys = (picture_key(sample),) if from_tar else image_keys_of(sample)
        for key in keys:
            if key in row and not (self.keep_pictures and key in self.fixed):
                row[key] = _embedded(row[key], sample)
                self.pictures.add(key)
                self._free(key)
        return row

    def _free(self, key: str) -> None:
        """Let a column of the given schema take embedded pictures."""
        if key in self.fixed:
            self.fixed -= {key}
            at = self.schema.get_field_index(key)
            self.schema = self.schema.set(at, pa.field(key, pa.null())) if self.sink is None else self.schema

    def _fit(self, name: str, known: pa.Field | None, values: list[Any]) -> tuple[pa.Field, pa.Array]:
        if known is not None:
            fixed = name in self.fixed
            array = None if fixed and not _known_keys(known.type, values) else _try(known, values, trusted=fixed)
            if array is not None:
                return known, array
            if fixed:
                raise SourceError(f"Column {name!r} has type {known.type} in the given schema, which a value does not fit.")
        found = _image_field(name, values) if name in self.pictures else _field(name, values)
        field = found if known is None else _merged(known, found)
        array = _try(field, values)
        if array is None:
            field = pa.field(name, pa.string(), metadata=JSON_MARK)
            array = _try(field, values)
        assert array is not None
        return field, array

    def _described(self, schema: pa.Schema) -> pa.Schema:
        """With the metadata of the source, or else the note by which `datasets` knows picture columns."""
        if self.metadata is not None or not self.pictures:
            return schema.with_metadata(self.metadata)
        notes = {f.name: _feature(f.type) for f in schema if f.name in self.pictures and not f.metadata}
        text = json.dumps({"info": {"features": notes}}, sort_keys=True)
        return schema.with_metadata({b"huggingface": text.encode("utf-8")}) if notes else schema

    def _widen(self, schema: pa.Schema) -> None:
        """Start the file, or start it again with the wider schema and copy what was written."""
        old = self._narrow
        if self.sink is not None and self.file is not None:
            self.sink.close()
            self.file.close()
            self.path.replace(old)
        self.file = self.path.open("wb")
        self.sink = self.open_sink(self.file, schema)
        self.schema = schema
        if old.exists():
            for batch in self.stored(old):
                self.sink.write_batch(_recast(batch, schema))
            old.unlink()


def _weight(row: Mapping[str, Any]) -> int:
    """About how many bytes a row holds."""
    return 64 + sum(_size(v) for v in row.values())


def _size(value: Any, depth: int = MAX_DEPTH) -> int:
    if isinstance(value, (str, bytes)):
        return len(value) + 16
    if isinstance(value, Mapping):
        return _weight(value)
    return 16 + sum(_size(v, depth - 1) for v in value) if isinstance(value, (list, tuple)) and depth else 16


def _embedded(value: Any, sample: Sample) -> Any:
    """The field's value with bytes; a path stays what the row said, not where it was found."""
    named = value if isinstance(value, list) else [value]
    structs = [struct_of(i) | {"path": _path(v, i)} for i, v in zip(sample.images, named, strict=False)]
    return structs if isinstance(value, list) else structs[0] if structs else None


def _path(value: Any, image: Image) -> str | None:
    if isinstance(value, Mapping):
        return value.get("path")
    return value if isinstance(value, str) and image.data is None else None


# Types


def _field(name: str, values: Sequence[Any]) -> pa.Field:
    kind = _kind(values)
    return pa.field(name, pa.string(), metadata=JSON_MARK) if kind is None else pa.field(name, kind)


def _image_field(name: str, values: Sequence[Any]) -> pa.Field:
    return pa.field(name, pa.list_(IMAGE) if any(isinstance(v, list) for v in values) else IMAGE)


def _kind(values: Sequence[Any], depth: int = MAX_DEPTH) -> pa.DataType | None:
    """The Arrow type that holds all values unchanged; None means JSON text."""
    items = [v for v in values if v is not None]
    if any(isinstance(v, Mapping) for v in items):
        return None
    if any(isinstance(v, list) for v in items):
        inner = [e for v in items if isinstance(v, list) for e in v]
        kind = None if depth == 0 else _turns(inner) if any(isinstance(e, Mapping) for e in inner) else _kind(inner, depth - 1)
        return None if kind is None or not all(isinstance(v, list) for v in items) else pa.list_(kind)
    if len({type(v) for v in items if type(v) is not float}) > 1 or (
        any(type(v) is bool for v in items) and len(set(map(type, items))) > 1
    ):
        return None
    try:
        return pa.infer_type(items)
    except MISFIT:
        return None


def _turns(items: Sequence[Any]) -> pa.DataType | None:
    """Objects with the same text fields in the same order, such as conversation turns, as a struct."""
    keys = {tuple(i) if isinstance(i, Mapping) else None for i in items}
    names = next(iter(keys))
    if len(keys) != 1 or not names or not all(isinstance(v, str) for i in items for v in i.values()):
        return None
    return pa.struct([(name, pa.string()) for name in names])


def shallow(schema: pa.Schema) -> pa.Schema:
    """The schema with JSON text for columns nested too deep for Parquet; then without metadata, which would name the old types."""
    fields = [pa.field(f.name, pa.string(), metadata=JSON_MARK) if _depth(f.type) > MAX_DEPTH else f for f in schema]
    return schema if fields == [*schema] else pa.schema(fields)


def _depth(kind: pa.DataType) -> int:
    return 1 + max((_depth(kind.field(i).type) for i in range(kind.num_fields)), default=-1)


def _merged(a: pa.Field, b: pa.Field) -> pa.Field:
    if a.metadata or b.metadata:
        return pa.field(a.name, pa.string(), metadata=JSON_MARK)
    kind = _wider(a.type, b.type)
    return pa.field(a.name, pa.string(), metadata=JSON_MARK) if kind is None else pa.field(a.name, kind)


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if {a, b} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(a) and pa.types.is_list(b):
        inner = _wider(a.value_type, b.value_type)
        return None if inner is None else pa.list_(inner)
    return None


def _feature(kind: pa.DataType) -> dict[str, Any]:
    image = {"_type": "Image"}
    return {"_type": "List", "feature": image} if pa.types.is_list(kind) else image


# Values


def _try(field: pa.Field, values: list[Any], trusted: bool = False) -> pa.Array | None:
    if field.metadata and field.metadata.get(b"mmalign") == b"json":
        return pa.array([None if v is None else _json(v) for v in values], pa.string())
    if not trusted and not _exact(field.type, values):
        return None
    try:
        return pa.array(values, field.type)
    except UnicodeEncodeError:
        return pa.array(_without_surrogates(values), field.type)
    except MISFIT:
        return None


def _exact(kind: pa.DataType, values: Sequence[Any]) -> bool:
    """Whether Arrow would keep the values as they are: it makes 1 of True, "x" of b"x" and drops unknown keys without a word."""
    items = [v for v in values if v is not None]
    if pa.types.is_struct(kind):
        maps = all(isinstance(v, Mapping) and [*v] == [f.name for f in kind] for v in items)
        return maps and all(_exact(f.type, [v[f.name] for v in items]) for f in kind)
    if pa.types.is_list(kind):
        return all(isinstance(v, list) for v in items) and _exact(kind.value_type, [e for v in items for e in v])
    if pa.types.is_floating(kind):
        return all(type(v) is float or (type(v) is int and abs(v) <= 1 << 53) for v in items)
    plain_types = ((pa.types.is_integer, int), (pa.types.is_boolean, bool), (pa.types.is_string, str), (pa.types.is_binary, bytes))
    return all(type(v) is python for test, python in plain_types if test(kind) for v in items)


def _known_keys(kind: pa.DataType, values: Sequence[Any]) -> bool:
    """Whether a struct type has a place for every key; Arrow would drop the others without a word."""
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return _known_keys(kind.value_type, [e for v in values if isinstance(v, list) for e in v])
    if not pa.types.is_struct(kind):
        return True
    names, maps = {f.name for f in kind}, [v for v in values if isinstance(v, Mapping)]
    return all(names.issuperset(v) for v in maps) and all(_known_keys(f.type, [v.get(f.name) for v in maps]) for f in kind)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=plain)
    return text if text.isascii() or not _has_surrogate(text) else json.dumps(value, default=plain)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _without_surrogates(value: Any) -> Any:
    """Half surrogate pairs, which Arrow's UTF-8 cannot hold, as the six characters of their escape."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {k: _without_surrogates(v) for k, v in value.items()}
    return [_without_surrogates(v) for v in value] if isinstance(value, list) else value


def _recast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    names = set(batch.schema.names)
    arrays = [_recast_one(batch, f) if f.name in names else pa.nulls(batch.num_rows, f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _recast_one(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    array, old = batch.column(field.name), batch.schema.field(field.name)
    if array.type == field.type and (old.metadata or None) == (field.metadata or None):
        return array
    if field.metadata:
        return pa.array([None if v is None else _json(v) for v in array.to_pylist()], pa.string())
    return array.cast(field.type)


# Reading


def rows_in(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """A batch as rows, columns of JSON text parsed."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    marked = [f.name for f in batch.schema if f.metadata and f.metadata.get(b"mmalign") == b"json"]
    for row in rows if marked else ():
        row |= {name: json.loads(row[name]) for name in marked if row[name] is not None}
    return rows


def batch_rows(rows: int, size: int) -> int:
    """How many rows to read at a time so that about 8 MB are in memory."""
    return max(1, min(1024, int((8 << 20) / max(1.0, size / max(1, rows)))))
