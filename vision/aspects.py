"""Pictures of any aspect ratio -> square pictures: squash, pad, centre crop, and the tilings of LLaVA-NeXT and InternVL."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import PIL.Image

Size = tuple[int, int]  # width, height: Pillow's order
BICUBIC = PIL.Image.Resampling.BICUBIC


def squash(picture: PIL.Image.Image, size: int, fill: Sequence[int] = (0, 0, 0), resample: int = BICUBIC) -> PIL.Image.Image:
    """Everything is seen, proportions are lost: resized to size x size. `fill` is not used. A picture of that size is left alone."""
    return picture if picture.size == (size, size) else picture.resize((size, size), PIL.Image.Resampling(resample))


def pad(picture: PIL.Image.Image, size: int, fill: Sequence[int] = (0, 0, 0), resample: int = BICUBIC) -> PIL.Image.Image:
    """Everything is seen in proportion: the shorter side is filled up on both ends, then resized
    [R: haotian-liu/LLaVA, llava/mm_utils.py, expand2square, with the mean colour of the processor as `fill`].
    """
    side = max(picture.size)
    if picture.size != (side, side):
        square = PIL.Image.new(picture.mode, (side, side), tuple(fill))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    return squash(picture, size, resample=resample)


def crop(picture: PIL.Image.Image, size: int, fill: Sequence[int] = (0, 0, 0), resample: int = BICUBIC) -> PIL.Image.Image:
    """The middle in proportion: the largest centred square, resized. `fill` is not used. The ends of the longer side are not seen."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return squash(picture.crop((left, top, left + side, top + side)), size, resample=resample)


ASPECTS: dict[str, Callable[..., PIL.Image.Image]] = {"squash": squash, "pad": pad, "crop": crop}


def best_resolution(size: Size, choices: Sequence[Size]) -> Size:
    """Which of `choices` (width, height) keeps most of a picture of `size`, and of equals wastes least, the first of those
    [R: haotian-liu/LLaVA, llava/mm_utils.py, select_best_resolution]. ValueError without choices.
    """
    if not choices:
        raise ValueError("tiling needs at least one resolution to choose from, as (width, height) in pixels")

    def kept(choice: Size) -> int:
        scale = min(choice[0] / size[0], choice[1] / size[1])
        return min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])

    return max(choices, key=lambda choice: (kept(choice), kept(choice) - choice[0] * choice[1]))


def fitted(picture: PIL.Image.Image, target: Size, fill: Sequence[int] = (0, 0, 0), resample: int = BICUBIC) -> PIL.Image.Image:
    """As large as fits into `target` in proportion, in the middle of `fill` [R: as above, resize_and_pad_image]."""
    across, down = target[0] / picture.width, target[1] / picture.height
    if across < down:
        inner = (target[0], min(math.ceil(picture.height * across), target[1]))
    else:
        inner = (min(math.ceil(picture.width * down), target[0]), target[1])
    canvas = PIL.Image.new(picture.mode, target, tuple(fill))
    resized = picture.resize(inner, PIL.Image.Resampling(resample))
    canvas.paste(resized, ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2))
    return canvas


def tiles(picture: PIL.Image.Image, size: int) -> list[PIL.Image.Image]:
    """A picture cut into size x size tiles, row by row. ValueError where they do not fill it."""
    if picture.width % size or picture.height % size:
        raise ValueError(f"a picture of {picture.width} x {picture.height} pixels is no whole number of tiles of {size} x {size}")
    corners = [(x, y) for y in range(0, picture.height, size) for x in range(0, picture.width, size)]
    return [picture.crop((x, y, x + size, y + size)) for x, y in corners]


def anyres(picture: PIL.Image.Image, size: int, choices: Sequence[Size], resample: int = BICUBIC) -> list[PIL.Image.Image]:
    """LLaVA-NeXT: the squashed whole, then the tiles of the picture fitted into the best of `choices`, whose sides are multiples of
    `size` [R: haotian-liu/LLaVA, llava/mm_utils.py, process_anyres_image].
    """
    best = best_resolution(picture.size, choices)
    return [squash(picture, size, resample=resample), *tiles(fitted(picture, best, resample=resample), size)]


def closest_layout(picture: Size, size: int, fewest: int, most: int) -> tuple[int, int]:
    """Columns and rows of `fewest` to `most` tiles in all whose aspect ratio is nearest to the picture's; of equally near ones the last, in
    order of number, that the picture covers by more than half [R: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py,
    find_closest_aspect_ratio, where several of one number and one distance come in no fixed order; here: more columns later].
    ValueError where there is no such number of tiles.
    """
    if not 1 <= fewest <= most:
        raise ValueError(f"tiling needs 1 <= fewest <= most tiles, got {fewest} and {most}")
    layouts = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if fewest <= c * r <= most]
    best, distance = (1, 1), math.inf
    for columns, rows in sorted(layouts, key=lambda layout: (layout[0] * layout[1], layout[0])):
        away = abs(picture[0] / picture[1] - columns / rows)
        large_enough = picture[0] * picture[1] > 0.5 * size * size * columns * rows
        if away < distance or (away == distance and large_enough):
            best, distance = (columns, rows), away
    return best


def dynamic_tiles(
    picture: PIL.Image.Image, size: int, *, fewest: int = 1, most: int = 12, thumbnail: bool = True, resample: int = BICUBIC
) -> list[PIL.Image.Image]:
    """InternVL: the picture squashed to the nearest layout of tiles, cut row by row; where there are several, the squashed whole comes last
    [R: as `closest_layout`, dynamic_preprocess].
    """
    columns, rows = closest_layout(picture.size, size, fewest, most)
    cut = tiles(picture.resize((columns * size, rows * size), PIL.Image.Resampling(resample)), size)
    return [*cut, squash(picture, size, resample=resample)] if thumbnail and len(cut) > 1 else cut
