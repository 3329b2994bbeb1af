"""Small pictures from JPEG by simplejpeg, the library of the extra `fast`: the pixels that Pillow gives, for less."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import PIL.Image

from .images import JPEG_SCALES, Decoded, Wish, fitted, turn_in, within
from .paths import SourceError

COLOURS = ("YCbCr", "Gray")  # CMYK, and RGB stored as it is, are left to Pillow
APP1, SCAN = 0xE1, 0xDA  # markers: of EXIF and XMP, which may say how to turn the picture; of the picture itself


@cache
def library() -> ModuleType:
    """The module of the extra. Raises SourceError where it is not installed."""
    try:
        import simplejpeg
    except ImportError as error:
        raise SourceError(f"fast decoding needs simplejpeg ({error}): pip install 'mm-align[fast]'") from error
    return simplejpeg  # type: ignore[no-any-return]


def shrunk(data: bytes, wish: Wish) -> Decoded | None:
    """The picture with its longer side at most `wish.max_side`.

    None for what is no plain and whole JPEG of at most `wish.max_pixels`: Pillow then decodes it, or says what is wrong with it.
    """
    simplejpeg = library()
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        if colour not in COLOURS or width * height > wish.max_pixels:
            return None
        size = within((width, height), wish.max_side)
        scale = next(scale for scale in reversed(JPEG_SCALES) if min(width // size[0], height // size[1]) >= scale)
        least = {"min_height": -(-height // scale), "min_width": -(-width // scale), "min_factor": 1}
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if wish.grey else "RGB", **least)  # [H, W, 1 or 3]
    except ValueError:  # damaged, cut, or of a kind that this library does not know
        return None
    mode = "L" if wish.grey else "RGB"
    picture = PIL.Image.frombuffer(mode, pixels.shape[1::-1], pixels, "raw", mode, 0, 1)
    turn = turn_in(data, wish.max_pixels) if _may_turn(data) else None
    return fitted(picture, (width, height), wish, turn)


def _may_turn(data: bytes) -> bool:
    """Whether a JPEG has a segment that may say how to turn it: APP1, before the scan begins."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != SCAN:
        if data[at + 1] == APP1:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
