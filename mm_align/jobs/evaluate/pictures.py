"""Pictures of a benchmark out of a data set (`datasets:NAME`, Parquet, tars), put as files where the benchmark looks for them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError

if TYPE_CHECKING:
    from data_tools.records import Sample

log = logging.getLogger(__name__)
HELD = ("parquet", "webdataset", "hf")  # formats whose rows hold pictures


def is_dataset(place: str) -> bool:
    """Whether pictures are inside rows there. A folder of picture files is none."""
    from data_tools.io import SourceError, list_shards

    if place.startswith("datasets:") or Path(place).is_file():
        return True
    try:
        return Path(place).is_dir() and all(shard.format in HELD for shard in list_shards(place))
    except SourceError:  # several kinds of files, or none: then it is for the benchmark to look
        return False


def lay_out(place: str, folder: Path, samples: Sequence[Sample]) -> None:
    """Write the pictures that `samples` look for in `folder`, each found by its name in some field of its row; what is there stays.

    Raises UserError for a source that cannot be read. What no row names stays missing.
    """
    from data_tools.io import BadImage, SourceError
    from data_tools.io.images import encoded

    paths = dict.fromkeys(Path(str(image.path)) for sample in samples for image in sample.images if image.data is None)
    known = by_name(path.relative_to(folder).as_posix() for path in paths if not path.exists())
    if known:
        log.info("looking for %d pictures in %s", len(set(known.values())), place)
    try:
        for row in _rows(place) if known else ():
            name = next((known[text] for text in _texts(row) if text in known), None)
            if name is not None and not (folder / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(encoded(row.images[0]))
    except (SourceError, BadImage, OSError) as error:
        raise UserError(f"{place}: {error}") from error


def by_name(names: Iterable[str]) -> dict[str, str]:
    """Pictures by what a row may call them: path, file name, file name without suffix; what two share names neither."""
    called = [(key, name) for name in names for key in {name, Path(name).name, Path(name).stem}]
    shared = Counter(key for key, _ in called)
    return {key: name for key, name in called if shared[key] == 1}


def _rows(place: str) -> Iterator[Sample]:
    from data_tools.io import list_shards, read
    from data_tools.records import Rejected

    for shard in list_shards(place):
        yield from (row for row in read(shard, caption_optional=True) if not isinstance(row, Rejected) and row.images)


def _texts(row: Sample) -> Iterator[str]:
    """What the row says, path of the picture and key of the row included, without a leading `./`."""
    said: list[Any] = [row.images[0].path, row.id, *_flat(row.meta)]
    for text in said:
        if isinstance(text, str):
            yield text.removeprefix("./")
            yield text.rpartition("/")[2]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _flat(inner)
    else:
        yield value
