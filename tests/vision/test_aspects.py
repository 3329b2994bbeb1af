"""Pictures of any aspect ratio become squares: by hand, and as the library's own tilings do it."""

from typing import Any

import numpy as np
import PIL.Image
import pytest

from vision import aspects
from vision.images import SquareImageProcessor


def noise(width: int, height: int) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def columns(*values: int) -> PIL.Image.Image:
    """Two rows, each column of one grey."""
    return PIL.Image.fromarray(np.array([[[v] * 3 for v in values]] * 2, dtype=np.uint8))


def grey(picture: PIL.Image.Image) -> Any:
    return np.asarray(picture)[..., 0].tolist()


class TestSquares:
    """A 4 x 2 picture with columns 10, 20, 30, 40 becomes 4 x 4 or 2 x 2."""

    def test_pad_fills_above_and_below(self) -> None:
        padded = aspects.pad(columns(10, 20, 30, 40), 4, fill=(7, 8, 9))
        assert grey(padded) == [[7] * 4, [10, 20, 30, 40], [10, 20, 30, 40], [7] * 4]
        assert padded.getpixel((0, 0)) == (7, 8, 9)

    def test_pad_puts_the_odd_row_behind(self) -> None:
        """3 x 2 on 3 x 3: (3 - 2) // 2 = 0 rows above, one below, as in expand2square."""
        assert grey(aspects.pad(columns(1, 2, 3), 3, fill=(9, 9, 9))) == [[1, 2, 3], [1, 2, 3], [9, 9, 9]]

    def test_pad_of_an_upright_picture_fills_left_and_right(self) -> None:
        assert grey(aspects.pad(columns(10, 20, 30, 40).transpose(PIL.Image.Transpose.ROTATE_270), 4, fill=(7, 7, 7)))[0] == [7, 10, 10, 7]

    def test_crop_keeps_the_middle(self) -> None:
        assert grey(aspects.crop(columns(10, 20, 30, 40), 2)) == [[20, 30], [20, 30]]

    def test_squash_is_pillows_resize(self) -> None:
        picture = noise(30, 20)
        assert np.array_equal(aspects.squash(picture, 8), picture.resize((8, 8), PIL.Image.Resampling.BICUBIC))
        assert aspects.squash(noise(8, 8), 8).size == (8, 8)

    @pytest.mark.parametrize("kind", aspects.ASPECTS)
    @pytest.mark.parametrize("size", [(30, 20), (20, 31), (16, 16), (1, 40)])
    def test_every_kind_gives_the_square(self, kind: str, size: tuple[int, int]) -> None:
        assert aspects.ASPECTS[kind](noise(*size), 16, (0, 0, 0)).size == (16, 16)


class TestProcessor:
    def test_squash_stays_as_it_was(self) -> None:
        """Bit for bit the plain resize, and what was saved before there was a choice still loads."""
        picture = noise(30, 20)
        resized = np.asarray(picture.resize((8, 8), PIL.Image.Resampling.BICUBIC)).astype(np.float32)
        expected = (resized * (np.float32(1) / (np.float32(255) * np.float32(0.5))) - np.float32(1)).transpose(2, 0, 1)
        old = {"size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3, "image_processor_type": "SquareImageProcessor"}
        for processor in (SquareImageProcessor(size=8), SquareImageProcessor.from_dict(old)):
            assert processor.aspect == "squash"
            assert np.array_equal(processor.pixels([picture])[0], expected)

    def test_pad_uses_the_mean_colour(self) -> None:
        """Mean 0.5: int(127.5) = 127, which becomes 127 / 127.5 - 1."""
        pixels = SquareImageProcessor(size=4, aspect="pad").pixels([columns(0, 0, 0, 0)])
        np.testing.assert_allclose(pixels[0, 0, :, 0], [127 / 127.5 - 1, -1, -1, 127 / 127.5 - 1], atol=1e-6)

    def test_the_choice_is_saved(self, tmp_path: Any) -> None:
        SquareImageProcessor(size=4, aspect="crop").save_pretrained(tmp_path)
        assert SquareImageProcessor.from_pretrained(tmp_path).aspect == "crop"

    def test_another_word_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown aspect 'stretch'; a picture becomes square by squash, pad, crop"):
            SquareImageProcessor(aspect="stretch")


GRID = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]  # LLaVA-NeXT's
SIZES = [(336, 336), (640, 480), (480, 640), (1920, 300), (300, 1900), (100, 90), (2000, 2000), (671, 337), (1, 1)]


class TestAnyres:
    def test_by_hand(self) -> None:
        """640 x 480: into 672 x 672 it fits at 1.05 as 672 x 504, capped at its own 307200 pixels, wasting 144384; into 672 x 336 at 0.7
        as 448 x 336 = 150528, the same into 336 x 672 as 336 x 252."""
        assert aspects.best_resolution((640, 480), GRID) == (672, 672)

    @pytest.mark.parametrize("size", SIZES)
    def test_choice_is_the_librarys(self, size: tuple[int, int]) -> None:
        from transformers.image_processing_utils import select_best_resolution

        theirs = select_best_resolution(size[::-1], [choice[::-1] for choice in GRID])
        assert aspects.best_resolution(size, GRID) == theirs[::-1]

    def test_fitted_stands_in_the_middle(self) -> None:
        """4 x 2 into 4 x 4: one empty row above and below; into 8 x 2: two empty columns at each side."""
        assert grey(aspects.fitted(columns(10, 10, 10, 10), (4, 4))) == [[0] * 4, [10] * 4, [10] * 4, [0] * 4]
        assert grey(aspects.fitted(columns(10, 10, 10, 10), (8, 2))) == [[0, 0, 10, 10, 10, 10, 0, 0]] * 2

    def test_whole_first_then_tiles_row_by_row(self) -> None:
        """A picture of 2 x 2 blocks 0, 1, 2, 3, of 4 x 4 pixels each."""
        picture = PIL.Image.fromarray(np.kron(np.array([[0, 1], [2, 3]]), np.ones((4, 4)))[..., None].repeat(3, 2).astype(np.uint8))
        whole, *cut = aspects.anyres(picture, 4, [(8, 8), (4, 8)])
        assert [np.unique(tile).tolist() for tile in cut] == [[0], [1], [2], [3]]
        assert whole.size == (4, 4)

    @pytest.mark.parametrize("size", [(640, 480), (1920, 300), (300, 700)])
    def test_pixels_are_the_librarys(self, size: tuple[int, int]) -> None:
        """Fitted and cut as LlavaNextImageProcessor does it with Pillow, before any rescaling."""
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        processor = LlavaNextImageProcessorPil(
            size={"height": 336, "width": 336},
            crop_size={"height": 336, "width": 336},
            image_grid_pinpoints=[list(choice[::-1]) for choice in GRID],
            do_rescale=False,
            do_normalize=False,
        )
        theirs = processor(noise(*size), return_tensors="np")["pixel_values"][0]
        ours = np.stack([np.asarray(tile) for tile in aspects.anyres(noise(*size), 336, GRID)]).transpose(0, 3, 1, 2)
        assert theirs.shape == ours.shape
        assert np.array_equal(theirs, ours)

    def test_what_cannot_be_cut_is_refused(self) -> None:
        with pytest.raises(ValueError, match="10 x 4 pixels is no whole number of tiles of 4 x 4"):
            aspects.tiles(noise(10, 4), 4)
        with pytest.raises(ValueError, match="at least one resolution"):
            aspects.best_resolution((3, 3), [])


class TestDynamicTiles:
    @pytest.mark.parametrize(
        ("size", "layout"),
        [
            ((800, 400), (2, 1)),  # 2.0 exactly; 4 x 2 and 6 x 3 need more than half of 8 x 448^2 pixels
            ((448 * 4, 448 * 2), (4, 2)),  # the same ratio, and large enough for 8 tiles (but not for more than 12)
            ((400, 1200), (1, 3)),
            ((500, 500), (1, 1)),
            ((900, 900), (2, 2)),  # 810000 > 0.5 x 4 x 448^2 = 401408, but not > 0.5 x 9 x 448^2 = 903168
            ((10000, 100), (12, 1)),
        ],
    )
    def test_layout_by_hand(self, size: tuple[int, int], layout: tuple[int, int]) -> None:
        assert aspects.closest_layout(size, 448, 1, 12) == layout

    @pytest.mark.parametrize("size", SIZES)
    def test_layout_is_the_librarys(self, size: tuple[int, int]) -> None:
        from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

        theirs = get_optimal_tiled_canvas(size[::-1], (448, 448), 1, 12)
        assert aspects.closest_layout(size, 448, 1, 12) == tuple(theirs)

    def test_tiles_then_the_whole(self) -> None:
        picture = noise(40, 20)
        cut = aspects.dynamic_tiles(picture, 16, most=4)
        resized = np.asarray(picture.resize((32, 16), PIL.Image.Resampling.BICUBIC))
        assert np.array_equal(np.asarray(cut[0]), resized[:, :16])
        assert np.array_equal(np.asarray(cut[1]), resized[:, 16:])
        assert np.array_equal(np.asarray(cut[2]), np.asarray(picture.resize((16, 16), PIL.Image.Resampling.BICUBIC)))
        assert len(cut) == 3
        assert len(aspects.dynamic_tiles(noise(20, 20), 16, most=1)) == 1

    def test_a_number_that_cannot_be_is_refused(self) -> None:
        with pytest.raises(ValueError, match="got 3 and 2"):
            aspects.closest_layout((4, 4), 2, 3, 2)
