"""A folder of pictures, each with its caption in a `.txt` and its other fields in a `.json` of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..disk.durable import sync
from ..records import Image, Rejected, Sample
from .fields import Wanted, image_keys_of, sample_of
from .images import encoded, suffix
from .paths import SourceError, exists, files_below, join, open_bytes
from .refusals import RowError, rejected
from .shard import Shard
from .sidecars import DATA, TEXT, is_picture, meta_of, sidecars_from, sidecars_of
from .writer import Writer as BaseWriter

FILE_NAME = "file_name"


def read(shard: Shard, wanted: Wanted, skip: int = 0) -> Iterator[Sample | Rejected]:
    """One row a picture, by relative path. Contents stream; the list of names is held (about 100 bytes a picture).

    `meta` is flat: `file_name`, `txt` when there is such a file, the fields of the json file. A picture without caption is
    Rejected with missing_caption; a sidecar without picture is no row.
    """
    names = (n for n in files_below(shard.path) if is_picture(n))
    for row, name in enumerate(names):
        if row >= skip:
            yield _row(shard, row, name, wanted)


def _row(shard: Shard, row: int, name: str, wanted: Wanted) -> Sample | Rejected:
    try:
        text, data = (_sidecar(shard.path, name, ending) for ending in (TEXT, DATA))
        meta = meta_of({FILE_NAME: name}, text, data)
    except RowError as error:
        return rejected(shard.name, row, "folder", error.reason, error.detail, name)
    except OSError as error:
        return rejected(shard.name, row, "folder", "sidecar_unreadable", f"{name}: {error.strerror or error}", name)
    except UnicodeEncodeError:
        return rejected(shard.name, row, "folder", "not_utf8", f"file name {name!r} is not UTF-8", repr(name))
    images = (Image(path=join(shard.path, name)),)
    return sample_of(meta, shard.name, row, "folder", wanted, caption_first=(TEXT,), given=((FILE_NAME,), images))


def _sidecar(root: str, name: str, ending: str) -> bytes | None:
    """`a.jpg.txt` where there is one (it tells a.jpg from a.png), else `a.txt`."""
    name.encode("utf-8")
    for beside in (f"{name}.{ending}", f"{name.rpartition('.')[0]}.{ending}"):
        path = join(root, beside)
        if exists(path):
            with open_bytes(path) as file:
                return file.read()
    return None


class Writer(BaseWriter):
    """Copies pictures byte for byte and writes their sidecars, all into a temporary folder that is renamed at the end.

    Raises SourceError for a row with more or less than one picture.
    """

    format = "folder"

    def __init__(self, path: str | Path, schema_hint: Any = None) -> None:
        super().__init__(path)
        self.rows = 0

    def begin(self) -> None:
        self.temporary.mkdir()

    def add(self, sample: Sample) -> None:
        if len(sample.images) != 1:
            raise SourceError(f"A folder holds one picture a row; row {sample.id!r} has {len(sample.images)}. Choose another --format.")
        content = encoded(sample.images[0])
        name = self._name(sample, content)
        for ending, body in zip(("", TEXT, DATA), (content, *self._sidecars(sample)), strict=True):
            if body is not None:
                self._put(self._beside(name, ending) if ending else self.temporary / name, body)
        self.rows += 1

    def finish(self) -> None:
        if hasattr(os, "sync"):
            os.sync()  # once for all files: syncing each would cost more than writing it
        sync(self.temporary)

    def release(self) -> None:
        """No file stays open between rows."""

    def _sidecars(self, sample: Sample) -> tuple[bytes | None, bytes | None]:
        if sample.source is None or sample.source.format != "folder":
            return sidecars_from(sample, (FILE_NAME,))
        name, path = sample.meta[FILE_NAME], str(sample.images[0].path)
        text, data = (_sidecar(path.removesuffix(name), name, ending) for ending in (TEXT, DATA))
        return sidecars_of(sample, (FILE_NAME,), text, data)

    def _name(self, sample: Sample, content: bytes) -> str:
        """The row's own relative file name where it is safe and free, else a number."""
        values = (sample.meta.get(key) for key in image_keys_of(sample))
        given = next((v for v in values if isinstance(v, str) and is_picture(v)), "")
        parts = PurePosixPath(given).parts
        safe = given and len(given) < 200 and not given.startswith("/") and not any(c in given for c in ":\\\0") and ".." not in parts
        return given if safe and not (self.temporary / given).exists() else f"{self.rows:09d}.{suffix(content)}"

    def _beside(self, name: str, ending: str) -> Path:
        short = self.temporary / f"{name.rpartition('.')[0]}.{ending}"
        return self.temporary / f"{name}.{ending}" if short.exists() else short

    def _put(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
