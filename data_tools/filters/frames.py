"""How many frames an encoded picture has, and how many of them differ."""

from __future__ import annotations

from typing import NamedTuple

import PIL.Image

from ..io.images import BROKEN, BadImage, opened, suffix

MANY = ("gif", "webp", "png", "tiff", "avif")  # formats that can hold more than one frame
MAX_FRAMES = 64
MAX_PIXELS = 1 << 26  # decoded of one file before the rest is left alone
THUMB = (32, 32)


class Frames(NamedTuple):
    """`frames`: how many there are, counted up to 64, to fewer where each has many pixels; `distinct`: how many of these differ when shrunk
    to 32 x 32 pixels of grey. None where the file breaks on the way."""

    frames: int | None
    distinct: int | None


def count_frames(data: bytes) -> Frames:
    """The frames of an encoded picture; (1, 1) for formats that hold one."""
    if suffix(data[:16]) not in MANY:
        return Frames(1, 1)
    try:
        with opened(data) as picture:
            return _count(picture) if getattr(picture, "is_animated", False) else Frames(1, 1)
    except (BadImage, *BROKEN):
        return Frames(None, None)


def _count(picture: PIL.Image.Image) -> Frames:
    most = max(1, min(MAX_FRAMES, MAX_PIXELS // (picture.width * picture.height)))
    seen, count = set(), 0
    for count in range(1, most + 1):
        seen.add(picture.convert("L").resize(THUMB, PIL.Image.Resampling.BOX).tobytes())
        try:
            picture.seek(count)
        except EOFError:
            break
    return Frames(count, len(seen))
