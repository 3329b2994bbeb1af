"""From encoded bytes to an RGB picture, or to a precise reason why not. Nothing is ever fetched from a URL."""

from __future__ import annotations

import errno
import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import IO, NamedTuple

import PIL.Image
import PIL.ImageFile

from ..records import Image
from .paths import REMOTE, SourceError, open_bytes

MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a GiB of RGB
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory", "file")  # storage; all else that has a scheme is a URL
# Formats worth their risk: EPS would start Ghostscript, and others have no signature that could be checked.
FORMATS = {  # and the modules of Pillow that read them
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "AVIF": "AvifImagePlugin",
    "PPM": "PpmImagePlugin",
    "ICO": "IcoImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
}
BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, struct.error, zlib.error)
ENDS_EARLY = re.compile(r"truncat|unexpected end|end of (file|data|image)|not enough|broken data stream|no more", re.IGNORECASE)
ROTATIONS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
SIDEWAYS = tuple(ROTATIONS[orientation] for orientation in (5, 6, 7, 8))
ORIENTATION = 0x0112
JPEG_SCALES = (1, 2, 4, 8)  # by which Pillow has libjpeg divide


class Decoded(NamedTuple):
    """An upright picture, RGB or grey, perhaps at a smaller scale, and (width, height) of the whole, upright. `covers`: see `Image`."""

    pixels: PIL.Image.Image
    size: tuple[int, int]
    covers: tuple[float, float] | None = None


class Wish(NamedTuple):
    """How a picture is to be decoded: see `decode`."""

    max_pixels: int
    max_side: int | None
    grey: bool
    loose: bool


class BadImage(ValueError):
    """A picture that cannot be used. `reason`: image_missing, image_empty, image_truncated, image_bomb or image_unreadable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(
    image: Image,
    *,
    max_pixels: int = MAX_PIXELS,
    max_side: int | None = None,
    grey: bool = False,
    loose: bool = False,
    fast: bool = False,
) -> Image:
    """The record with `.pixels`: RGB, turned as its EXIF says, first frame, transparency over white, 16 bits scaled to 8; and `.size`.

    `max_pixels` is checked on the header, before anything is decoded, in place of Pillow's own limit (which stays for what
    Pillow checks inside WebP, GIF, ICO and TIFF files: 178,956,970 pixels). `max_side` (pixels) shrinks the picture, JPEG
    already while decoding, which changes pixels a little: for signals, hashes and thumbnails, not for model input. `loose`: a
    longer side of less than twice `max_side` will do as well, and saves a resize. `grey`: mode L in place of RGB, of a JPEG without
    its colours being decoded at all. `fast`: a shrunk JPEG is decoded by the library of the extra `fast` (see `fast_jpeg`).
    Raises BadImage.
    """
    if image.pixels is not None:
        return image
    wish = Wish(max_pixels, max_side, grey, loose)
    with open_image(image) as stream:
        found = _by_fast_jpeg(stream, wish) if fast and max_side else None
        done = found or _decoded(stream, wish)
    return Image(image.path, image.data, *done)


def measured(image: Image, *, max_pixels: int = MAX_PIXELS) -> Image:
    """The record with `.size` alone, told by the picture's header; whether the rest is whole is not known. Raises BadImage."""
    if image.size is not None:
        return image
    with open_image(image) as stream, _header(stream, max_pixels) as opened:
        return replace(image, size=_upright_size(opened.size, turn_of(opened)))


def _by_fast_jpeg(stream: IO[bytes], wish: Wish) -> Decoded | None:
    from . import fast_jpeg

    found = fast_jpeg.shrunk(stream.read(), wish)
    stream.seek(0)
    return found


def opened(data: bytes, *, max_pixels: int = MAX_PIXELS) -> PIL.Image.Image:
    """An encoded picture by its header, for looking at its frames. Raises BadImage, and Pillow's errors from what is done with it."""
    return _header(io.BytesIO(data), max_pixels)


def encoded(image: Image) -> bytes:
    """The encoded bytes of a picture, from memory or from its file. Raises BadImage."""
    if image.data is not None:
        return image.data
    with open_image(image) as stream:
        return stream.read()


def open_image(image: Image) -> IO[bytes]:
    """A binary stream over the encoded picture. Raises BadImage with image_missing or image_unreadable."""
    if image.data is not None:
        return io.BytesIO(image.data)
    if not image.path:
        raise BadImage("image_missing", "the row has neither a path nor bytes for its picture")
    _refuse_url(image.path)
    return _open_path(image.path)


def suffix(data: bytes) -> str:
    """The file suffix that fits encoded bytes, without the dot; "bin" when they are no known picture."""
    for start, name in ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"), (b"BM", "bmp")):
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    return "avif" if data[4:12] in (b"ftypavif", b"ftypavis") else "bin"


def _refuse_url(path: str) -> None:
    found = REMOTE.match(path)
    if "::" in path or (found and found.group()[:-3].lower() not in STORES):
        raise BadImage("image_missing", f"{path[:200]} is a URL; URLs are never fetched. Download the picture and give its path or bytes")


def _open_path(path: str) -> IO[bytes]:
    try:
        return open_bytes(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage("image_missing", f"no file {path[:300]}; give --image-root if paths are relative to another folder") from error
    except OSError as error:
        missing = error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
        raise BadImage(
            "image_missing" if missing else "image_unreadable", f"cannot open {path[:300]}: {error.strerror or error}"
        ) from error
    except SourceError as error:
        raise BadImage("image_missing", str(error)) from error
    except ValueError as error:  # a path with a NUL byte or half a surrogate pair
        raise BadImage("image_missing", f"{path[:300]!r} is not a file name: {error}") from error


@cache
def _reader(format: str) -> tuple[Callable[[IO[bytes], str], PIL.ImageFile.ImageFile], Callable[[bytes], bool | str] | None] | None:
    """Pillow's class for a format and its test of the first bytes; None where this Pillow cannot read it. Only the module of this format
    is loaded: `PIL.Image.init` loads forty, which takes longer than fifty pictures."""
    with suppress(ImportError):
        import_module(f"PIL.{FORMATS[format]}")
    return PIL.Image.OPEN.get(format)


def _decoded(stream: IO[bytes], wish: Wish) -> Decoded:
    with _header(stream, wish.max_pixels) as opened:
        whole = opened.size
        small = within(whole, wish.max_side)
        try:
            if wish.grey or small != whole:
                opened.draft("L" if wish.grey else "RGB", small)
            opened.load()
            picture = _to_grey(opened) if wish.grey else _to_rgb(opened)
            return fitted(picture, whole, wish, turn_of(opened))
        except PIL.Image.DecompressionBombError as error:
            raise _refused_by_pillow(error, wish.max_pixels) from error
        except BROKEN as error:
            raise _broken(error, stream) from error


def within(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """The size of the same shape whose longer side is at most `max_side`."""
    scale = 1.0 if max_side is None else min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fitted(picture: PIL.Image.Image, whole: tuple[int, int], wish: Wish, turn: PIL.Image.Transpose | None) -> Decoded:
    """What a scaled decode of a picture of size `whole` gave, shrunk as wished and turned.

    Not shrunk: a picture that has the wished size, or where `wish.loose` one that is less than twice as large.
    """
    small, covers = within(whole, wish.max_side), covered(whole, picture.size)
    enough = picture.size == small or (wish.loose and max(picture.size) < 2 * max(small))
    if enough and (covers is None or turn is None):
        return Decoded(*_turned(picture, whole, turn), covers)
    size = picture.size if enough else small  # once turned, a picture need not end in its partial blocks
    box = None if covers is None else (0, 0, *covers)
    return Decoded(*_turned(picture.resize(size, PIL.Image.Resampling.BICUBIC, box, reducing_gap=2.0), whole, turn))


def covered(whole: tuple[int, int], decoded: tuple[int, int]) -> tuple[float, float] | None:
    """How much of a scaled decode a picture of size `whole` covers, from the top left: JPEG's last blocks may be partial, and a scaled
    decode that counts them as whole is wider than the picture by up to one pixel. None where it covers all."""
    width, height = whole
    scale = next((k for k in JPEG_SCALES if decoded == (-(-width // k), -(-height // k))), 1)
    return None if width % scale == 0 and height % scale == 0 else (width / scale, height / scale)


def _header(stream: IO[bytes], max_pixels: int) -> PIL.Image.Image:
    try:
        opened = _opened(stream)
    except PIL.Image.DecompressionBombError as error:
        raise _refused_by_pillow(error, max_pixels) from error
    except BROKEN as error:
        raise _broken(error, stream) from error
    if opened is None:
        raise _unidentified(stream)
    width, height = opened.size
    if width * height > max_pixels:
        raise BadImage("image_bomb", f"{width} x {height} pixels are more than the limit of {max_pixels}; nothing was decoded")
    return opened


def _opened(stream: IO[bytes]) -> PIL.Image.Image | None:
    """`PIL.Image.open` without its limit of pixels, which is one for the whole process and cannot be set for one call."""
    start = stream.read(16)
    for factory, accept in filter(None, map(_reader, FORMATS)):
        fits = accept is None or accept(start)
        if fits and not isinstance(fits, str):  # a text says what stands in the way, such as a missing library
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # by these a format says that the file is not its own
                return factory(stream, "")
    return None


def _refused_by_pillow(error: Exception, max_pixels: int) -> BadImage:
    return BadImage("image_bomb", f"Pillow refuses this picture by a limit of its own (ours is {max_pixels} pixels): {error}")


def _unidentified(stream: IO[bytes]) -> BadImage:
    stream.seek(0)
    start = stream.read(16)
    if not start:
        return BadImage("image_empty", "zero bytes")
    if suffix(start) != "bin":
        return BadImage("image_truncated", f"starts like {suffix(start)}, but its header is not whole")
    return BadImage("image_unreadable", f"not a picture of a format known here ({', '.join(filter(_reader, FORMATS))})")


def _broken(error: BaseException, stream: IO[bytes]) -> BadImage:
    early = ENDS_EARLY.search(str(error)) or _shorter_than_it_says(stream)
    return BadImage("image_truncated" if early else "image_unreadable", f"{type(error).__name__}: {error}"[:500])


def _shorter_than_it_says(stream: IO[bytes]) -> bool:
    """WebP says its length in its first bytes, and its decoder gives no reason."""
    stream.seek(0)
    start = stream.read(12)
    return start[:4] == b"RIFF" and stream.seek(0, io.SEEK_END) < int.from_bytes(start[4:8], "little") + 8


def turn_of(opened: PIL.Image.Image) -> PIL.Image.Transpose | None:
    """How the header says that the stored picture is turned upright."""
    try:
        return ROTATIONS.get(opened.getexif().get(ORIENTATION, 1))
    except BROKEN:  # damaged EXIF says nothing about the pixels
        return None


def turn_in(data: bytes, max_pixels: int) -> PIL.Image.Transpose | None:
    """How an encoded picture says that it is turned upright. Raises BadImage."""
    return turn_of(_header(io.BytesIO(data), max_pixels))


def _turned(picture: PIL.Image.Image, whole: tuple[int, int], turn: PIL.Image.Transpose | None) -> tuple[PIL.Image.Image, tuple[int, int]]:
    """The stored picture, and the stored size of the whole, upright."""
    return picture if turn is None else picture.transpose(turn), _upright_size(whole, turn)


def _upright_size(whole: tuple[int, int], turn: PIL.Image.Transpose | None) -> tuple[int, int]:
    return whole[::-1] if turn in SIDEWAYS else whole


def _to_rgb(opened: PIL.Image.Image) -> PIL.Image.Image:
    if opened.mode.startswith(("I", "F")):
        return _from_wide(opened)
    if opened.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in opened.info:
        return _over_white(opened.convert("RGBA"))
    return opened.convert("RGB")


def _to_grey(opened: PIL.Image.Image) -> PIL.Image.Image:
    plain = opened.mode == "L" and "transparency" not in opened.info
    return opened if plain else _to_rgb(opened).convert("L")


def _over_white(rgba: PIL.Image.Image) -> PIL.Image.Image:
    ground = PIL.Image.new("RGB", rgba.size, (255, 255, 255))
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground


def _from_wide(opened: PIL.Image.Image) -> PIL.Image.Image:
    """16-bit, 32-bit and float grey to 8 bits: by the full scale of the type where the values fit one, else by their range."""
    import numpy as np  # only such pictures need it, and many verbs read none

    values = np.nan_to_num(np.asarray(opened, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 and opened.mode == "F":
        scaled = values * 255
    elif opened.mode.startswith("I;16") or (low >= 0 and 255 < high <= 65535):
        scaled = values / 257
    elif low >= 0 and high <= 255:
        scaled = values
    else:
        scaled = (values - low) * (255 / max(high - low, 1e-12))
    return PIL.Image.fromarray(np.round(scaled).astype(np.uint8)).convert("RGB")
