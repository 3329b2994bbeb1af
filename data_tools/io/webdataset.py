"""WebDataset tars by the standard library: adjacent members that share a key are one row. Nothing is extracted to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

from ..records import Image, Rejected, Sample
from .fields import Wanted, sample_of
from .images import BadImage, encoded, suffix
from .jsonl import open_lines
from .refusals import RowError, excerpt, rejected
from .shard import Shard
from .sidecars import DATA, MEMBERS, TEXT, is_picture, meta_of, sidecars_from, sidecars_of
from .writer import FileWriter

KEY = "__key__"
MAX_MEMBER = 1 << 29  # bytes; a larger member rejects its row instead of filling the memory
BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, OSError)


def read(shard: Shard, wanted: Wanted, skip: int = 0) -> Iterator[Sample | Rejected]:
    """Rows of a tar. A tar that ends in the middle gives the rows before that and one Rejected.

    `meta` is flat: `__key__`, `txt` when there is such a member, the fields of the json member, and under `__members__`
    the bytes of every member by its ending, so that unknown members survive.
    """
    row = 0
    with open_lines(shard.path) as file:
        for found in _groups(file, skip):
            if row >= skip:
                yield _row(found, shard, row, wanted)
            row += 1


def _row(found: Group, shard: Shard, row: int, wanted: Wanted) -> Sample | Rejected:
    try:
        if found.problem is not None:
            raise found.problem
        ends = {name.lower(): name for name in found.files}
        text, data = (found.files.get(ends.get(e, "")) for e in (TEXT, DATA))
        meta = meta_of({KEY: found.key, MEMBERS: found.files}, text, data)
    except RowError as error:
        return rejected(shard.name, row, "webdataset", error.reason, error.detail, excerpt({KEY: found.key, **found.files}))
    pictures = {e: b for e, b in found.files.items() if is_picture(e) and wanted.image_key in (None, e)}
    images = tuple(Image(path=f"{found.key}.{e}", data=b) for e, b in pictures.items())
    return sample_of(meta, shard.name, row, "webdataset", wanted, caption_first=(TEXT,), given=(tuple(pictures), images))


# The archive


@dataclass(slots=True)
class Group:
    """The members of one row; `problem` is the first reason why it cannot be one."""

    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    problem: RowError | None = None


class _Member(tarfile.TarInfo):
    """Tells its archive how the headers ended: `TarFile.next` itself takes a cut header for the end. Reads plain headers fast."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Of a file under a short name in the format ustar, as nearly all are, name and size alone; any other header as `tarfile` does."""
        if len(buf) == tarfile.BLOCKSIZE and buf[257:262] == b"ustar" and buf[156:157] == tarfile.REGTYPE and not buf[345]:
            name, told = buf[:100].partition(b"\0")[0], buf[148:156]
            with suppress(ValueError):  # a number in base 256, or none at all
                if int(told.rstrip(b"\0 "), 8) == sum(buf) - sum(told) + 8 * ord(" "):
                    member = cls(name.decode(encoding, errors))
                    member.size = int(buf[124:136].rstrip(b"\0 "), 8)
                    return member
        return super().frombuf(buf, encoding, errors)

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            cast(_Archive, archive).ended = type(error).__name__
            raise


class _Archive(tarfile.TarFile):
    ended = ""


def _groups(file: IO[bytes], skip: int) -> Iterator[Group]:
    """Rows in order; contents are read from row `skip` on. The last group says when the archive is not whole."""
    group: Group | None = None
    rows = 0
    try:
        archive = _Archive(fileobj=file, mode="r", tarinfo=_Member)
    except BROKEN as error:
        yield Group("", problem=RowError("shard_unreadable", f"not a tar archive: {error}"))
        return
    try:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else the list grows with the archive
            if member.isdir() or member.name.rpartition("/")[2].startswith("._"):
                continue
            key, ending = split_name(member.name)
            if group is None or key != group.key or ending in group.files:
                if group is not None:
                    yield group
                    rows += 1
                group = Group(key)
            _take(archive, member, group, ending, wanted=rows >= skip)
    except BROKEN as error:
        key = group.key if group else ""
        yield Group(key, problem=RowError("shard_truncated", f"the archive breaks off in or after {key!r}: {error}"))
        return
    if group is not None:
        yield group
    if archive.ended != "EOFHeaderError":
        detail = (
            f"the archive ends without its end mark ({archive.ended or 'no more data'}); rows after this one are lost if there were any"
        )
        yield Group("", problem=RowError("shard_truncated", detail))


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, group: Group, ending: str, wanted: bool) -> None:
    group.files[ending] = b""
    group.problem = group.problem or _problem(member)
    if wanted and group.problem is None:
        group.files[ending] = _content(archive, member)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Of a regular file, which begins where its header ended. Raises tarfile.ReadError where the archive cannot hold it."""
    if member.size < 0:
        raise tarfile.ReadError(f"a size of {member.size} bytes")
    if member.issparse():
        found = archive.extractfile(member)
        return found.read() if found else b""
    assert archive.fileobj is not None
    archive.fileobj.seek(member.offset_data)
    content: bytes = archive.fileobj.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _problem(member: tarfile.TarInfo) -> RowError | None:
    name = member.name
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
        return RowError("unsafe_name", f"member {name[:200]!r} points outside the archive")
    if not member.isreg():
        return RowError("not_a_file", f"member {name[:200]!r} is a link or device, not a file")
    if any("\ud800" <= c <= "\udfff" for c in name):
        return RowError("not_utf8", f"member name {name[:200]!r} is not UTF-8")
    if member.size > MAX_MEMBER:
        return RowError("member_too_large", f"member {name[:200]!r} has {member.size} bytes; the limit is {MAX_MEMBER}")
    return None


def split_name(name: str) -> tuple[str, str]:
    """("dir/0001", "seg.png") of "dir/0001.seg.png": the key ends at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending


# Writing


class Writer(FileWriter):
    """Writes tars whose bytes depend on the samples alone. Unknown members are copied; new fields go to the json member.

    A row of another format becomes `<number>.<picture ending>` + `.txt` (caption) + `.json` (its other fields).
    """

    format = "webdataset"

    def __init__(self, path: str | Path, schema_hint: Any = None) -> None:
        super().__init__(path)
        self.rows = 0

    def begin(self) -> None:
        super().begin()
        self.archive = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, sample: Sample) -> None:
        key = self._key(sample)
        members = sample.meta.get(MEMBERS)
        files = _members(sample) if members is None else _changed_members(sample, members)
        for ending, content in files.items():
            self._put(f"{key}.{ending}" if ending else key, content)
        self.rows += 1

    def finish(self) -> None:
        self.archive.close()
        super().finish()

    def release(self) -> None:
        with suppress(OSError, ValueError):
            self.archive.close()
        super().release()

    def _key(self, sample: Sample) -> str:
        key = sample.meta.get(KEY)
        plain = isinstance(key, str) and key and split_name(key) == (key, "") and _problem(_regular(key)) is None
        return str(key) if plain else f"{self.rows:09d}"

    def _put(self, name: str, content: bytes) -> None:
        entry = _regular(name)
        entry.size = len(content)
        self.archive.addfile(entry, io.BytesIO(content))
        self.archive.members = []  # type: ignore[attr-defined]  # else the list grows with the archive


def _regular(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    return entry


def _changed_members(sample: Sample, members: dict[str, bytes]) -> dict[str, bytes]:
    """The members in their order, txt and json with what changed; new ones at the end."""
    ends = {name.lower(): name for name in members}
    old = {e: members.get(ends.get(e, "")) for e in (TEXT, DATA)}
    text, data = sidecars_of(sample, (KEY,), old[TEXT], old[DATA])
    new = {ends.get(e, e): b for e, b in ((TEXT, text), (DATA, data)) if b is not None}
    return members | new


def _members(sample: Sample) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for i, image in enumerate(sample.images):
        with suppress(BadImage, OSError):  # a picture that cannot be read leaves its row without one
            content = encoded(image)
            files[suffix(content) if len(sample.images) == 1 else f"{i}.{suffix(content)}"] = content
    text, data = sidecars_from(sample, (KEY,))
    return files | {e: b for e, b in ((TEXT, text), (DATA, data)) if b is not None}
