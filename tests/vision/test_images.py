"""Pictures become the same numbers as SigLIP's own preprocessing with Pillow."""

import numpy as np
import PIL.Image
import pytest
import torch

from vision.images import SquareImageProcessor


@pytest.fixture(scope="module")
def noise() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))


def test_equals_the_librarys_pillow_processor(noise: PIL.Image.Image) -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    theirs = SiglipImageProcessorPil(size={"height": 16, "width": 16})(noise, return_tensors="np")["pixel_values"]
    ours = SquareImageProcessor(size=16)(noise, return_tensors="np")["pixel_values"]
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_native_size_is_not_resampled() -> None:
    """0 -> -1, 255 -> 1, 51 -> 51 / 127.5 - 1 = -0.6."""
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[0, 0], image[1, 1] = 255, 51
    pixels = SquareImageProcessor(size=2).pixels([PIL.Image.fromarray(image)])
    np.testing.assert_allclose(pixels[0, 0], [[1, -1], [-1, -0.6]], atol=1e-6)


def test_arrays_tensors_and_grey_pictures_are_read(noise: PIL.Image.Image) -> None:
    processor = SquareImageProcessor(size=8)
    array = np.asarray(noise)
    expected = processor.pixels([noise])
    assert np.array_equal(processor.pixels([array]), expected)
    assert np.array_equal(processor.pixels([torch.from_numpy(array.copy()).permute(2, 0, 1)]), expected)
    assert processor.pixels([noise.convert("L")]).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("wrong", ["a.jpg", np.zeros((4, 4, 3)), np.zeros((4, 4), dtype=np.uint8)])
def test_what_is_no_picture_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="picture"):
        SquareImageProcessor(size=8).pixels([wrong])
