"""`mmalign rlaif convert`: preference pairs from any toolkit's format into any other's."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from pydantic import Field

from ...choices import Keys
from ...config import JobConfig, UserError

if TYPE_CHECKING:
    from data_tools.records import Image, PreferencePair, Rejected

Format = Annotated[str, Keys("data_tools/preference/face.py", "FORMATS")]
NEEDS_FILES = ("llama_factory", "ms_swift", "trl")  # in JSON, these toolkits take a picture by its path only


class FeedbackConvertConfig(JobConfig):
    """What to read and what to write."""

    source: str = Field(description="file of pairs, or folder of such files", json_schema_extra={"positional": True})
    out: Path = Field(description="file to write; its suffix says what kind of file")
    format: Format = Field("mm_align", description="format to write")
    source_format: Format | None = Field(None, description="format to read; default: by its columns")
    image_root: str | None = Field(None, description="folder that the source's relative picture paths start from; default: beside it")
    pictures: Path | None = Field(
        None, description="folder for pictures that the source holds as bytes; default: OUT_pictures, where the format needs files"
    )
    limit: int | None = Field(None, ge=1, description="only the first rows")
    overwrite: bool = Field(False, description="replace the file")


@dataclass
class Counts:
    """What happened to the rows."""

    written: int = 0
    gone: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ConvertReport:
    """The file of pairs, how many it holds, how many rows were left out for which reason, and the file that tells of each (None
    where all could be written)."""

    out: Path
    format: str
    written: int
    left_out: dict[str, int]
    quarantine: Path | None


def run(config: FeedbackConvertConfig) -> ConvertReport:
    """Write the pairs, and broken rows to OUT.quarantine as JSON Lines with their reasons. Raises UserError."""
    from data_tools.io import SourceError

    out = config.out.expanduser()
    quarantine = out.with_name(f"{out.name}.quarantine")
    _refuse_taken(config, out)
    try:
        counts = _convert(config, out, quarantine)
    except SourceError as error:
        raise UserError(str(error)) from error
    except FileNotFoundError as error:
        raise UserError(f"no file {error.filename}") from error
    print(f"{counts.written} pairs written to {config.out} as {config.format}")
    if counts.gone:
        print(f"left out: {_told(counts.gone)}; {quarantine} says why of each")
    return ConvertReport(out, config.format, counts.written, dict(counts.gone.most_common()), quarantine if counts.gone else None)


def _refuse_taken(config: FeedbackConvertConfig, out: Path) -> None:
    if out.exists() and out.resolve() == Path(config.source).expanduser().resolve():
        raise UserError(f"--out {config.out} is the source itself; name another file")
    if out.is_dir() or (out.exists() and not config.overwrite):
        raise UserError(f"--out {config.out} exists; name another file" + ("" if out.is_dir() else ", or replace it with --overwrite"))


def _convert(config: FeedbackConvertConfig, out: Path, quarantine: Path) -> Counts:
    from data_tools.disk.durable import put_in_place, remove, sync
    from data_tools.io.refusals import rejected
    from data_tools.preference import read_pairs, write_pairs

    counts, temporary = Counts(), quarantine.with_name(f".{quarantine.name}.tmp")
    found = read_pairs(config.source, format=config.source_format, image_root=config.image_root, limit=config.limit)
    opened = _opened(config, temporary)
    try:
        with opened as file:

            def leave(row: Rejected) -> None:
                counts.gone[row.reason] += 1
                file.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")

            def refused(pair: PreferencePair, error: Any) -> None:
                place = pair.sample.source
                assert place is not None  # pairs that were read have one
                leave(rejected(place.shard, place.row, place.format, error.reason, error.detail, pair.chosen))

            pairs = _with_files(_pairs(found, leave), _folder(config, out))
            counts.written = write_pairs(out, _some(pairs, counts, config.source), config.format, refused=refused)
        if not counts.gone:
            remove(quarantine)
            return counts
        sync(temporary)
        put_in_place(temporary, quarantine)
    finally:
        remove(temporary)
    return counts


def _opened(config: FeedbackConvertConfig, path: Path) -> TextIO:
    """A file beside OUT, to write. UserError where there can be none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write --out {config.out}: {error.strerror}; choose another place") from error


def _pairs(found: Iterable[PreferencePair | Rejected], leave: Any) -> Iterator[PreferencePair]:
    from data_tools.records import PreferencePair

    for item in found:
        if isinstance(item, PreferencePair):
            yield item
        else:
            leave(item)


def _some(pairs: Iterator[PreferencePair], counts: Counts, source: str) -> Iterator[PreferencePair]:
    """The pairs; UserError where there is none, before an empty file takes the place of another."""
    empty = True
    for pair in pairs:
        empty = False
        yield pair
    if empty:
        raise UserError(f"{source} holds no pair that can be used: {_told(counts.gone) or 'it has no rows'}")


def _told(gone: Counter[str]) -> str:
    return ", ".join(f"{n} x {reason}" for reason, n in gone.most_common())


# Pictures as files


def _folder(config: FeedbackConvertConfig, out: Path) -> Path | None:
    if out.suffix == ".parquet":
        return None
    if config.pictures is not None:
        return config.pictures.expanduser()
    return out.with_name(f"{out.stem}_pictures") if config.format in NEEDS_FILES else None


def _with_files(pairs: Iterator[PreferencePair], folder: Path | None) -> Iterator[PreferencePair]:
    """The pairs, each picture that is bytes written to `folder` under the hash of its content."""
    for pair in pairs:
        images = tuple(image if folder is None or image.data is None else _filed(image.data, folder) for image in pair.sample.images)
        yield replace(pair, sample=replace(pair.sample, images=images))


def _filed(data: bytes, folder: Path) -> Image:
    from data_tools.disk.durable import write_atomic
    from data_tools.io.images import suffix
    from data_tools.records import Image

    path = folder / f"{hashlib.sha256(data).hexdigest()[:24]}.{suffix(data)}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    return Image(str(path))
