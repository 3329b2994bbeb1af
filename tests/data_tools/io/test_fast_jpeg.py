"""The fast way to small pictures keeps Pillow's contract: the same sizes, the same pixels, the same words for what is broken."""

import builtins
import io

import numpy as np
import PIL.Image
import pytest

from data_tools.io import fast_jpeg
from data_tools.io.images import BadImage, decode
from data_tools.io.paths import SourceError
from data_tools.records import Image

pytest.importorskip("simplejpeg")


def photo(size=(640, 400)) -> PIL.Image.Image:
    """Smooth noise: something in every corner, and no two corners alike."""
    noise = np.random.default_rng(3).integers(0, 255, (8, 11, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise).resize(size, PIL.Image.Resampling.BICUBIC)


def saved(picture: PIL.Image.Image, format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return saved(photo(), exif=exif.tobytes())


WHOLE = {
    "plain": saved(photo()),
    "small already": saved(photo((60, 40))),
    "grey": saved(photo().convert("L")),
    "progressive": saved(photo(), progressive=True),
    "no subsampling": saved(photo(), subsampling=0, quality=95),
    "CMYK": saved(photo().convert("CMYK")),
    "PNG": saved(photo(), "PNG"),
    "16 bits": saved(PIL.Image.fromarray(np.arange(40_000, dtype=np.uint16).reshape(200, 200)), "PNG"),
    **{f"orientation {n}": turned(n) for n in range(1, 9)},
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("side", [7, 128, 300])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("loose", [False, True])
def test_same_size_and_the_same_pixels(name, side, grey, loose):
    image = Image(data=WHOLE[name])
    slow, quick = (decode(image, max_side=side, grey=grey, loose=loose, fast=fast) for fast in (False, True))
    assert (quick.size, quick.pixels.size, quick.pixels.mode) == (slow.size, slow.pixels.size, slow.pixels.mode)
    assert quick.pixels.tobytes() == slow.pixels.tobytes()


@pytest.mark.parametrize("name", WHOLE)
def test_grey_is_the_grey_of_the_colours(name):
    """Whichever way: one channel of the same size, nearly what the small RGB picture's grey is."""
    image = Image(data=WHOLE[name])
    colour = np.asarray(decode(image, max_side=128).pixels.convert("L"), float)
    for fast in (False, True):
        grey = decode(image, max_side=128, grey=True, fast=fast)
        assert (grey.pixels.mode, grey.size) == ("L", decode(image).size)
        assert np.abs(np.asarray(grey.pixels, float) - colour).mean() < 4


def test_a_plain_jpeg_takes_the_fast_way(monkeypatch):
    monkeypatch.setattr("data_tools.io.images._decoded", None)
    assert decode(Image(data=WHOLE["plain"]), max_side=128, fast=True).pixels.size == (128, 80)


BROKEN = {
    "cut": WHOLE["plain"][:3000],
    "header cut": WHOLE["plain"][:14],
    "empty": b"",
    "no picture": b"<html>no picture</html>",
    "only a signature": b"\xff\xd8\xff\xe0 and nothing more",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_told_as_pillow_tells_it(name):
    told = []
    for fast in (False, True):
        with pytest.raises(BadImage) as caught:
            decode(Image(data=BROKEN[name]), max_side=128, fast=fast)
        told.append((caught.value.reason, caught.value.detail))
    assert told[0] == told[1]


def test_a_bomb_is_refused_by_its_header():
    with pytest.raises(BadImage) as caught:
        decode(Image(data=WHOLE["plain"]), max_pixels=1000, max_side=128, fast=True)
    assert caught.value.reason == "image_bomb"


def test_whole_pictures_are_never_decoded_the_fast_way(monkeypatch):
    monkeypatch.setattr(fast_jpeg, "shrunk", None)
    assert decode(Image(data=WHOLE["plain"]), fast=True).pixels.size == (640, 400)


def test_without_the_extra_the_message_names_it(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **options):
        if name == "simplejpeg":
            raise ImportError("No module named 'simplejpeg'")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    fast_jpeg.library.cache_clear()
    try:
        with pytest.raises(SourceError, match=r"mm-align\[fast\]"):
            decode(Image(data=WHOLE["plain"]), max_side=128, fast=True)
    finally:
        fast_jpeg.library.cache_clear()
