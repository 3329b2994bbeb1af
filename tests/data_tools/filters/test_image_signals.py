"""Signals of pictures against plain computations, and frames of files that hold several."""

import io

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest

from data_tools.filters.frames import MAX_FRAMES, count_frames
from data_tools.filters.image import ImageSignals
from data_tools.records import Image, Sample


def told(picture, *names):
    image = Image(pixels=picture, size=picture.size)
    return ImageSignals(names)([Sample("r", (), (image,))])[0]


@pytest.fixture
def noise():
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8))


def test_sharpness_is_the_variance_of_the_laplacian(noise):
    grey = np.asarray(noise, np.float64)
    values = [
        4 * grey[y, x] - grey[y - 1, x] - grey[y + 1, x] - grey[y, x - 1] - grey[y, x + 1] for y in range(1, 39) for x in range(1, 59)
    ]
    assert told(noise, "image.sharpness")["image.sharpness"] == pytest.approx(np.var(values), rel=1e-4)


def test_a_blurred_picture_is_less_sharp(noise):
    blurred = noise.filter(PIL.ImageFilter.GaussianBlur(2))
    assert told(blurred)["image.sharpness"] < 0.1 * told(noise)["image.sharpness"]


def test_half_black_half_white_by_hand():
    """Two levels of equal share: one bit of entropy, a deviation of 127.5, half of the pixels near the commonest."""
    picture = PIL.Image.new("L", (10, 10), 0)
    picture.paste(255, (5, 0, 10, 10))
    row = told(picture, "image.entropy", "image.contrast", "image.constant")
    assert row == {"image.entropy": 1.0, "image.contrast": 127.5, "image.constant": 0.5}


def test_large_and_small_copies_compare(noise):
    """What is above 256 pixels is shrunk first, so a picture and its enlargement are about as sharp."""
    small = noise.resize((240, 160), PIL.Image.Resampling.BICUBIC)
    large = small.resize((960, 640), PIL.Image.Resampling.BICUBIC)
    assert told(large)["image.sharpness"] == pytest.approx(told(small)["image.sharpness"], rel=0.3)


def animation(format, colors, **more):
    frames = [PIL.Image.new("RGB", (20, 20), color) for color in colors]
    frames[0].save(buffer := io.BytesIO(), format, save_all=True, append_images=frames[1:], **more)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize(("format", "more"), [("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True, "duration": [10, 20, 30, 40]})])
def test_frames_and_how_many_differ(format, more):
    assert count_frames(animation(format, ["red", "blue", "red", "blue"], **more)) == (4, 2)
    assert count_frames(animation(format, ["red", "blue"], **more)[:60]) == (None, None)


def test_frames_are_counted_up_to_a_limit():
    assert count_frames(animation("TIFF", ["red"] * (MAX_FRAMES + 6))) == (MAX_FRAMES, 1)


def test_formats_of_one_picture_have_one_frame():
    PIL.Image.new("RGB", (20, 20)).save(buffer := io.BytesIO(), "JPEG")
    assert count_frames(buffer.getvalue()) == (1, 1)
    assert count_frames(b"") == (1, 1)
