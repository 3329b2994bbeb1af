"""The face of preference files: one `read_pairs` and one `write_pairs` for every format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, cast

from ..io.fields import Row
from ..io.images import BadImage
from ..io.listing import list_shards
from ..io.manifest import image_root_of
from ..io.paths import SourceError
from ..io.refusals import RowError, excerpt, names_of, rejected
from ..io.shard import Shard
from ..records import PreferencePair, Rejected
from .container import rows, writer
from .pair import Place, carrier, checked, stored

FORMATS = {  # a module of this folder -> the suffixes of the files that it is written to, the usual one first
    "mm_align": (".jsonl",),
    "rlaifv": (".parquet",),
    "trl": (".parquet", ".jsonl"),
    "llama_factory": (".json", ".jsonl"),
    "ms_swift": (".jsonl", ".json"),
}
LOOK_AT = 100  # rows that are tried before a file counts as one of no known format


class Format(Protocol):
    """What a format's file holds. FIELDS: its columns, for people. IMAGE_KEY: the column of its pictures. A module that has
    `schema()` gives the Arrow types of its columns."""

    FIELDS: str
    IMAGE_KEY: str

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has this format's columns; no row has those of two."""
        ...

    def pair_of(self, row: Mapping[str, Any], place: Place) -> PreferencePair:
        """Raises RowError."""
        ...

    def row_of(self, pair: PreferencePair, images: list[Any]) -> dict[str, Any]:
        """`images`: the pair's pictures as they are to stand in the file. Raises RowError for a pair that the format cannot hold."""
        ...


def read_pairs(
    path: str | Path, *, format: str | None = None, image_root: str | None = None, limit: int | None = None
) -> Iterator[PreferencePair | Rejected]:
    """Pairs of a file, or of a folder of files, in order; broken rows as Rejected; streaming, pictures not decoded.

    `format`: a key of FORMATS; None: by the columns of the first rows. `image_root`: the folder that relative picture paths start
    from; None: beside the file. `limit`: at most so many rows. A picture that is no file is a broken row, and so is a URL: URLs are
    never fetched. `sample.messages` is the prompt, `sample.meta` what the format has no field for. Raises SourceError for a path
    that holds nothing readable and for columns of no known format.
    """
    if format is not None:
        _module(format)
    return islice(chain.from_iterable(_shard(shard, format, image_root) for shard in list_shards(path)), limit)


Refused = Callable[[PreferencePair, RowError | BadImage], None]


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair], format: str = "mm_align", *, refused: Refused | None = None) -> int:
    """Write pairs and return how many; the file appears under `path` only when it is whole.

    Pictures go along as bytes into Parquet; elsewhere those with a path are named by it (in `mm_align` and `llama_factory` relative to
    the file, in `trl` and `ms_swift` absolute) and others are embedded as base64. `refused` is told of each pair that the format
    cannot hold and of each whose picture cannot be read; without it they raise RowError and BadImage. Raises SourceError for an
    unknown format or a suffix that it is not written to.
    """
    module = _module(format)
    suffix = Path(path).suffix
    if suffix not in FORMATS[format]:
        raise SourceError(f"Preference format {format!r} is written to {' or '.join(FORMATS[format])} files, found {Path(path).name!r}.")
    count = 0
    with writer(path, getattr(module, "schema", None)) as file:
        for pair in pairs:
            try:
                images = stored(pair.sample.images, format, Path(path))
                row = module.row_of(pair, images.values)
            except (RowError, BadImage) as error:
                if refused is None:
                    raise
                refused(pair, error)
                continue
            file.add(carrier(row, module.IMAGE_KEY, images.embedded))
            count += 1
    return count


def _module(format: str) -> Format:
    if format not in FORMATS:
        raise SourceError(f"Unknown preference format {format!r}; known: {', '.join(FORMATS)}.")
    return cast(Format, import_module(f".{format}", __package__))


def _shard(shard: Shard, format: str | None, image_root: str | None) -> Iterator[PreferencePair | Rejected]:
    found = rows(shard)
    first = list(islice(found, LOOK_AT))
    good = [row for row in first if isinstance(row, Row)]
    if not good:
        yield from (row for row in first if isinstance(row, Rejected))
        return
    name = format or _recognised(shard, good)
    module, root = _module(name), image_root_of(shard, image_root)
    for row in chain(first, found):
        yield row if isinstance(row, Rejected) else _pair(row, module, Place(shard.name, row.number, name, root))


def _recognised(shard: Shard, found: list[Row]) -> str:
    for row in found:
        for name in FORMATS:
            if _module(name).recognises(row.meta):
                return name
    known = "; ".join(f"{name}: {_module(name).FIELDS}" for name in FORMATS)
    raise SourceError(
        f"{shard.path} is no preference file of a known format: its rows have {names_of(found[0].meta)}. Known are {known}. "
        f"Rename its columns, or name the format."
    )


def _pair(row: Row, module: Format, place: Place) -> PreferencePair | Rejected:
    try:
        return checked(module.pair_of(row.meta, place))
    except RowError as error:
        return rejected(place.shard, place.row, place.format, error.reason, error.detail, excerpt(row.meta))
