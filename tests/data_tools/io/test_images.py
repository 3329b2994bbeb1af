"""Decoding: every kind of picture becomes RGB of known pixels, every kind of damage its own reason."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from data_tools.io.images import BadImage, decode, encoded, measured, suffix
from data_tools.records import Image


def pixel(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    picture = decode(Image(data=data)).pixels
    assert picture is not None
    assert picture.mode == "RGB"
    return picture.getpixel(at)


def saved(picture: PIL.Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def reason(data: bytes | None = None, path: str | None = None, **options) -> str:
    with pytest.raises(BadImage) as caught:
        decode(Image(path=path, data=data), **options)
    assert caught.value.detail
    return caught.value.reason


def test_plain_and_tiny_pictures():
    assert pixel(saved(PIL.Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")) == (1, 2, 3)
    assert pixel(saved(PIL.Image.new("1", (4, 4), 1), "PNG")) == (255, 255, 255)
    assert pixel(saved(PIL.Image.new("L", (4, 4), 7), "PNG")) == (7, 7, 7)


def test_transparency_is_over_white():
    """Half of black over white: 255 * (1 - 128/255) = 127."""
    assert pixel(saved(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG")) == (255, 255, 255)
    assert pixel(saved(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG")) == (127, 127, 127)
    assert pixel(saved(PIL.Image.new("LA", (2, 2), (50, 255)), "PNG")) == (50, 50, 50)
    assert pixel(saved(PIL.Image.new("RGB", (2, 2), (9, 9, 9)), "PNG", transparency=(9, 9, 9))) == (255, 255, 255)


def test_palette_with_transparency():
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putdata([0, 1])
    data = saved(picture, "PNG", transparency=0)
    assert (pixel(data, (0, 0)), pixel(data, (1, 0))) == ((255, 255, 255), (0, 255, 0))


def test_cmyk_jpeg_keeps_its_colour():
    red, green, blue = pixel(saved(PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_257(format):
    """65535 / 257 = 255, 32896 / 257 = 128."""
    data = saved(PIL.Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)), format)
    assert [pixel(data, (x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_float_and_wide_integers():
    """Floats in [0, 1] times 255; other ranges from their lowest to their highest value."""
    unit = saved(PIL.Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32)), "TIFF")
    assert [pixel(unit, (x, 0))[0] for x in range(4)] == [0, 128, 255, 0]
    wide = saved(PIL.Image.fromarray(np.array([[-100000, 0, 100000]], dtype=np.int32)), "TIFF")
    assert [pixel(wide, (x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_animations(format):
    frames = [PIL.Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    assert pixel(saved(frames[0], format, save_all=True, append_images=frames[1:], lossless=True))[0] > 240


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (7, 3)), (6, (3, 0)), (8, (0, 7)), (5, (0, 0)), (99, (0, 0))])
def test_exif_rotation(orientation, corner):
    """The stored upper left corner is marked; orientation 6 turns it to the upper right, 8 to the lower left, 3 to the lower right."""
    picture = PIL.Image.new("RGB", (8, 4), "black")
    picture.putpixel((0, 0), (255, 255, 255))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    assert pixel(saved(picture, "PNG", exif=exif.tobytes()), corner) == (255, 255, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(make_picture):
    assert pixel(make_picture(format="JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff"))[0] > 240


def test_missing_empty_unreadable(tmp_path: Path):
    assert reason(path=str(tmp_path / "no.jpg")) == "image_missing"
    assert reason() == "image_missing"
    assert reason(path="a\0b.jpg") == "image_missing"
    assert reason(path="x" * 5000) == "image_missing"
    assert reason(b"") == "image_empty"
    (tmp_path / "zero.jpg").touch()
    assert reason(path=str(tmp_path / "zero.jpg")) == "image_empty"
    assert reason(b"<html>no picture</html>") == "image_unreadable"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "image_unreadable"
    assert reason(path=str(tmp_path)) == "image_unreadable"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_fifo_is_refused_without_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(path=str(tmp_path / "pipe.jpg")) == "image_unreadable"


@pytest.mark.parametrize("url", ["https://example.org/a.jpg", "ftp://example.org/a.jpg", "simplecache::https://example.org/a.jpg"])
def test_urls_are_never_fetched(url):
    with pytest.raises(BadImage, match="never fetched") as caught:
        decode(Image(path=url))
    assert caught.value.reason == "image_missing"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated_pictures(format):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(PIL.Image.fromarray(noise), format)
    assert reason(data[: len(data) // 2]) == "image_truncated"
    assert reason(data[:14]) == "image_truncated"


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_bomb_is_refused_by_its_header(make_picture):
    assert reason(png_header(60000, 60000)) == "image_bomb"
    assert reason(make_picture(size=(11, 10)), max_pixels=100) == "image_bomb"
    assert decode(Image(data=make_picture(size=(10, 10))), max_pixels=100).pixels.size == (10, 10)


def test_only_our_own_limit_counts(monkeypatch, make_picture):
    """With Pillow's limit at 10 pixels it raises above 20; 100 pixels pass here, and 99 refuse them in our own words."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    for format in ("PNG", "JPEG", "BMP"):
        picture = Image(data=make_picture(size=(10, 10), format=format))
        assert decode(picture, max_pixels=100).pixels.size == (10, 10)
        with pytest.raises(BadImage, match="10 x 10 pixels are more than the limit of 99") as caught:
            decode(picture, max_pixels=99)
        assert caught.value.reason == "image_bomb"


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_limit_above_pillows_is_heeded():
    """400 million pixels: over what Pillow lets pass, under the limit asked for; the file is cut, which is what is reported."""
    with pytest.raises(BadImage) as caught:
        decode(Image(data=png_header(20_000, 20_000)[:40]), max_pixels=500_000_000)
    assert caught.value.reason == "image_truncated"


def test_what_pillow_checks_inside_a_format_is_still_a_bomb(monkeypatch, make_picture):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadImage, match="limit of its own") as caught:
        decode(Image(data=make_picture(size=(10, 10), format="WEBP")), max_pixels=100)
    assert caught.value.reason == "image_bomb"


def test_the_content_of_a_file_that_is_no_picture_is_not_told(tmp_path):
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root")
    with pytest.raises(BadImage) as caught:
        decode(Image(path=str(tmp_path / "passwd")))
    assert caught.value.reason == "image_unreadable"
    assert "root" not in caught.value.detail


def test_no_global_flag_is_changed(make_picture):
    before = (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)
    decode(Image(data=make_picture()), max_pixels=1000, max_side=4)
    assert before == (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)
    assert before[1] is False


def test_max_side_and_given_pixels(make_picture):
    assert decode(Image(data=make_picture(size=(400, 200), format="JPEG")), max_side=50).pixels.size == (50, 25)
    done = Image(pixels=PIL.Image.new("RGB", (3, 3)))
    assert decode(done) is done


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_small_picture_is_the_large_one_shrunk(format):
    """Decoding at a scale against decoding all and shrinking: 3.0 of 255 at most on average (a smooth picture: nothing aliases)."""
    ramp = np.stack(np.meshgrid(np.arange(600) % 256, np.arange(400) % 256)[:1] * 3, axis=-1).astype(np.uint8)
    data = saved(PIL.Image.fromarray(ramp).resize((1200, 800)), format)
    small, whole = decode(Image(data=data), max_side=96), decode(Image(data=data))
    assert (small.pixels.size, small.size, whole.size) == ((96, 64), (1200, 800), (1200, 800))
    difference = np.asarray(small.pixels, float) - np.asarray(whole.pixels.resize((96, 64), PIL.Image.Resampling.BICUBIC), float)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize(("size", "kept"), [((400, 100), (50, 12)), ((99, 40), (99, 40)), ((40, 20), (40, 20)), ((100, 40), (50, 20))])
def test_a_loose_bound_leaves_what_is_less_than_twice_as_large(make_picture, size, kept):
    assert decode(Image(data=make_picture(size=size)), max_side=50, loose=True).pixels.size == kept


def test_grey_is_over_white_and_keeps_16_bits():
    """Transparent black over white is 255; 32896 / 257 = 128."""
    clear = saved(PIL.Image.new("LA", (2, 2), (0, 0)), "PNG")
    wide = saved(PIL.Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)), "PNG")
    told = [decode(Image(data=data), grey=True).pixels for data in (clear, wide)]
    assert [picture.mode for picture in told] == ["L", "L"]
    assert (told[0].getpixel((0, 0)), told[1].getpixel((1, 0))) == (255, 128)


@pytest.mark.parametrize(("orientation", "size"), [(1, (300, 299)), (3, (300, 299)), (6, (299, 300)), (8, (299, 300))])
def test_size_is_of_the_whole_upright_picture(orientation, size):
    """Also where the small picture is square, so that its own shape cannot tell."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = Image(data=saved(PIL.Image.new("RGB", (300, 299)), "JPEG", exif=exif.tobytes()))
    assert (decode(image, max_side=8).size, decode(image).size, measured(image).size) == (size, size, size)
    assert measured(image).pixels is None


def test_measuring_reads_the_header_and_no_more(make_picture):
    data = make_picture(size=(40, 20), format="JPEG")
    assert measured(Image(data=data[:-10])).size == (40, 20)
    for broken, why in ((b"", "image_empty"), (b"<html>", "image_unreadable"), (png_header(60000, 60000), "image_bomb")):
        with pytest.raises(BadImage) as caught:
            measured(Image(data=broken))
        assert caught.value.reason == why


def test_encoded_and_suffix(tmp_path: Path, make_picture):
    path = tmp_path / "a.jpg"
    path.write_bytes(make_picture(format="JPEG"))
    assert encoded(Image(path=str(path))) == path.read_bytes()
    assert [suffix(make_picture(format=f)) for f in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")] == [
        "jpg",
        "png",
        "webp",
        "gif",
        "bmp",
        "tiff",
    ]
    assert suffix(b"hello") == "bin"


def test_a_jpeg_loads_no_other_format():
    """Forty modules of Pillow take longer to load than fifty pictures to decode."""
    data = saved(PIL.Image.new("RGB", (9, 9)), "JPEG")
    code = (
        "import sys; from data_tools.io import decode; from data_tools.records import Image\n"
        "decode(Image(data=sys.stdin.buffer.read()))\n"
        "print(sorted(name for name in sys.modules if name.startswith('PIL.') and name.endswith('Plugin')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True)
    assert done.stdout.decode() == "['PIL.JpegImagePlugin']\n", done.stderr.decode()
