"""What a file's first bytes tell that FFmpeg does not pass on: an MP4 without its index, files that end too early."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NO_INDEX = "an MP4 whose index, 'moov', is missing, as after a recording or download that broke off; nothing can be read without it"
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def what_is_missing(handle: str | BinaryIO) -> str:
    """The sentence for an MP4 without its index, the commonest file that cannot be opened; empty for others."""
    kinds = list(_boxes(handle))
    return NO_INDEX if kinds[:1] == [b"ftyp"] and b"moov" not in kinds else ""


def matroska_breaks_off(handle: str | BinaryIO, size: int) -> bool:
    """Whether a Matroska file of `size` bytes ends before its segment does; a live recording's segment has no end."""
    head = _read(handle, 0, 128)
    if head[:4] != EBML:
        return False
    length, place = _number(head, 4)
    place += length
    if head[place : place + 4] != SEGMENT:
        return False
    length, begin = _number(head, place + 4)
    unknown = length == 2 ** (7 * (begin - place - 4)) - 1
    return not unknown and begin + length > size


def ends_within_packet(container: str, size: int) -> bool:
    """Whether an MPEG transport stream of `size` bytes ends within a packet (188 bytes, 192 on discs)."""
    return container == "mpegts" and size % 188 != 0 and size % 192 != 0


def _read(handle: str | BinaryIO, place: int, count: int) -> bytes:
    """Bytes at a place; a file object is left where it stood, as its container reads on from there."""
    if isinstance(handle, str) and not Path(handle).is_file():
        return b""  # an address
    if isinstance(handle, str):
        with Path(handle).open("rb") as file:
            file.seek(place)
            return file.read(count)
    before = handle.tell()
    handle.seek(place)
    data = handle.read(count)
    handle.seek(before)
    return data


def _boxes(handle: str | BinaryIO) -> Iterator[bytes]:
    """The kinds of an MP4's outermost boxes, from their heads alone; for other files nothing of use."""
    place = 0
    for _ in range(64):
        head = _read(handle, place, 16)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        yield head[4:8]
        if size < 8:
            return
        place += size


def _number(data: bytes, place: int) -> tuple[int, int]:
    """EBML's number of variable length, and the place behind it."""
    first = data[place]
    length = 9 - first.bit_length()
    value = int.from_bytes(data[place : place + length], "big") & (2 ** (7 * length) - 1)
    return value, place + length
