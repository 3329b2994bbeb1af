"""Scene -> RGB picture: anti-aliased sprites drawn once at eight times the size, own bitmap font for signs."""

from __future__ import annotations

import math
from functools import cache, lru_cache

from PIL import Image, ImageDraw, ImageFilter

from .spec import SPEC
from .world import PLACE_XY, Scene

OVERSAMPLING = 8
CANVAS = 64  # the unit of all coordinates in the truth; larger pictures are scaled

# 5 x 7 letters, one string a row; only what the signs need.
FONT = {
    "A": "01110 10001 10001 11111 10001 10001 10001", "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111", "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000", "I": "01110 00100 00100 00100 00100 00100 01110",
    "K": "10001 10010 10100 11000 10100 10010 10001", "L": "10000 10000 10000 10000 10000 10000 11111",
    "N": "10001 11001 11001 10101 10011 10011 10001", "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000", "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110", "T": "11111 00100 00100 00100 00100 00100 00100",
    "X": "10001 10001 01010 00100 01010 10001 10001",
}  # fmt: skip


def render(scene: Scene) -> Image.Image:
    """The picture of `scene`, RGB, `scene.size` pixels square."""
    scale = scene.size / CANVAS
    colors = {**SPEC["colors"], **SPEC["backgrounds"]}  # films flash up in the colours of objects
    picture = Image.new("RGB", (scene.size, scene.size), tuple(colors[scene.background]))
    for item in scene.items:
        _paste(picture, _item_sprite(item.shape, item.color, item.size, item.texture, scene.size), item.x * scale, item.y * scale)
    for sign in scene.signs:
        _paste(picture, _sign_sprite(sign.word, scene.size), *(v * scale for v in PLACE_XY[sign.place]))
    for chart in scene.charts:
        _paste(picture, _chart_sprite(chart.bars, scene.size), *(v * scale for v in PLACE_XY[chart.place]))
    return picture


def boxes(scene: Scene) -> list[list[float]]:
    """[x0, y0, x1, y1] of each item, in pixels of the rendered picture."""
    scale = scene.size / CANVAS
    radii = [SPEC["object_sizes"][i.size] for i in scene.items]
    corners = [(i.x - r, i.y - r, i.x + r, i.y + r) for i, r in zip(scene.items, radii, strict=True)]
    return [[round(v * scale, 1) for v in box] for box in corners]


def _paste(picture: Image.Image, sprite: Image.Image, x: float, y: float) -> None:
    left, top = (min(max(0, round(c - s / 2)), picture.width - s) for c, s in ((x, sprite.width), (y, sprite.height)))
    picture.paste(sprite, (left, top), sprite)


@cache
def _item_sprite(shape: str, color: str, size: str, texture: str, picture_size: int) -> Image.Image:
    radius = SPEC["object_sizes"][size] * picture_size / CANVAS
    side = 2 * math.ceil(radius) + 2
    big = side * OVERSAMPLING
    mask = Image.new("L", (big, big), 0)
    _SHAPES[shape](ImageDraw.Draw(mask), big / 2, radius * OVERSAMPLING)
    fill = Image.new("RGB", (big, big), tuple(SPEC["colors"][color]))
    if texture != "plain":
        pixel = OVERSAMPLING * picture_size / CANVAS
        patterned = Image.new("RGB", (big, big), tuple(SPEC["colors"][color]))
        _texture(ImageDraw.Draw(patterned), texture, big, pixel)
        inside = mask.filter(ImageFilter.BoxBlur(round(1.1 * pixel))).point(lambda v: 255 if v > 253 else 0)
        fill.paste(patterned, (0, 0), inside)  # the plain rim keeps the shape's outline readable
    fill.putalpha(mask)
    return fill.resize((side, side), Image.Resampling.BOX)


def _texture(draw: ImageDraw.ImageDraw, texture: str, big: int, pixel: float) -> None:
    light = (250, 250, 250)
    if texture == "striped":
        for k in range(-1, int(big / pixel) + 4, 4):
            draw.rectangle((0, k * pixel, big, (k + 1.6) * pixel), fill=light)
    elif texture == "dotted":
        for row in range(int(big / pixel / 4) + 2):
            for column in range(int(big / pixel / 4) + 2):
                x, y = (column * 4 + 2 * (row % 2)) * pixel, (row * 4 + 1) * pixel
                draw.ellipse((x - pixel, y - pixel, x + pixel, y + pixel), fill=light)


def _polygon(draw: ImageDraw.ImageDraw, c: float, points: list[tuple[float, float]]) -> None:
    draw.polygon([(c + x, c + y) for x, y in points], fill=255)


def _circle(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    draw.ellipse((c - r, c - r, c + r, c + r), fill=255)


def _ring(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    _circle(draw, c, r)
    draw.ellipse((c - 0.5 * r, c - 0.5 * r, c + 0.5 * r, c + 0.5 * r), fill=0)


def _square(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    _polygon(draw, c, [(-0.88 * r, -0.88 * r), (0.88 * r, -0.88 * r), (0.88 * r, 0.88 * r), (-0.88 * r, 0.88 * r)])


def _diamond(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    _polygon(draw, c, [(0, -r), (0.72 * r, 0), (0, r), (-0.72 * r, 0)])


def _triangle(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    _polygon(draw, c, [(0, -r), (r, 0.85 * r), (-r, 0.85 * r)])


def _cross(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    draw.rectangle((c - r, c - 0.33 * r, c + r, c + 0.33 * r), fill=255)
    draw.rectangle((c - 0.33 * r, c - r, c + 0.33 * r, c + r), fill=255)


def _star(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    spokes = [(r if k % 2 == 0 else 0.4 * r, math.pi * k / 5 - math.pi / 2) for k in range(10)]
    _polygon(draw, c, [(length * math.cos(angle), length * math.sin(angle)) for length, angle in spokes])


def _heart(draw: ImageDraw.ImageDraw, c: float, r: float) -> None:
    for side in (-1, 1):
        x = c + side * 0.48 * r
        draw.ellipse((x - 0.52 * r, c - 0.9 * r, x + 0.52 * r, c + 0.14 * r), fill=255)
    _polygon(draw, c, [(-0.97 * r, -0.2 * r), (0.97 * r, -0.2 * r), (0, r)])


_SHAPES = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star,
    "heart": _heart, "cross": _cross, "ring": _ring, "diamond": _diamond,
}  # fmt: skip


@cache
def _sign_sprite(word: str, picture_size: int) -> Image.Image:
    width, height = 6 * len(word) + 3, 13
    board = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(board)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(90, 60, 40))
    for k, letter in enumerate(word):
        for y, row in enumerate(FONT[letter].split()):
            for x, bit in enumerate(row):
                if bit == "1":
                    board.putpixel((2 + 6 * k + x, 3 + y), (20, 20, 20))
    return _scaled(board, picture_size)


@lru_cache(maxsize=512)
def _chart_sprite(bars: tuple[tuple[str, int], ...], picture_size: int) -> Image.Image:
    width, height = 7 * len(bars) + 3, 22
    board = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(board)
    draw.line((1, 1, 1, height - 2), fill=(60, 60, 60))
    draw.line((1, height - 2, width - 2, height - 2), fill=(60, 60, 60))
    for k, (color, value) in enumerate(bars):
        left = 3 + 7 * k
        draw.rectangle((left, height - 3 - 2 * value, left + 4, height - 3), fill=tuple(SPEC["colors"][color]))
    return _scaled(board, picture_size)


def _scaled(board: Image.Image, picture_size: int) -> Image.Image:
    if picture_size != CANVAS:
        factor = picture_size / CANVAS
        board = board.resize((round(board.width * factor), round(board.height * factor)), Image.Resampling.BICUBIC)
    return board.convert("RGBA")
