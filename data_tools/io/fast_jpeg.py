"""Small pictures from JPEG by the libraries of the extra `fast`: libjpeg-turbo at the scale that is wanted, and a resize by area."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import NamedTuple

import PIL.Image

from .images import Decoded, turn_in, upright, within
from .paths import SourceError

COLOURS = ("YCbCr", "Gray")  # CMYK, and RGB stored as it is, are left to Pillow
APP1, SCAN = 0xE1, 0xDA  # markers: of EXIF and XMP, which may say how to turn the picture; of the picture itself


class _Libraries(NamedTuple):
    simplejpeg: ModuleType
    cv2: ModuleType


@cache
def libraries() -> _Libraries:
    """The modules of the extra. Raises SourceError where they are not installed."""
    try:
        import cv2
        import simplejpeg
    except ImportError as error:
        raise SourceError(f"fast decoding needs simplejpeg and OpenCV ({error}): pip install 'mm-align[fast]'") from error
    return _Libraries(simplejpeg, cv2)


def shrunk(data: bytes, max_pixels: int, max_side: int, grey: bool = False) -> Decoded | None:
    """The picture with its longer side at most `max_side`.

    None for what is no plain and whole JPEG of at most `max_pixels`: Pillow then decodes it, or says what is wrong with it.
    """
    simplejpeg, cv2 = libraries()
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        if colour not in COLOURS or width * height > max_pixels:
            return None
        size = within((width, height), max_side)
        pixels = simplejpeg.decode_jpeg(
            data, "GRAY" if grey else "RGB", min_height=size[1], min_width=size[0], min_factor=1
        )  # [H, W, 3 or 1]
    except ValueError:  # damaged, cut, or of a kind that this library does not know
        return None
    pixels = pixels[:, :, 0] if grey else pixels
    if pixels.shape[:2] != size[::-1]:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    turn = turn_in(data, max_pixels) if _may_turn(data) else None
    return upright(PIL.Image.fromarray(pixels), (width, height), turn)


def _may_turn(data: bytes) -> bool:
    """Whether a JPEG has a segment that may say how to turn it: APP1, before the scan begins."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != SCAN:
        if data[at + 1] == APP1:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
