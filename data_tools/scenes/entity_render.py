"""Entity + view -> RGB picture. Emblem weaves alternate every pixel around one grey, so half the resolution hides them."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .entities import SPEC, Look, View

PX = SPEC["picture_px"]
SIDE = 64  # of the sprite that a landmark is drawn on, in pixels of the picture
OVERSAMPLING = 4
GREY = 140.0  # the mean of every emblem's two colours


def render_landmark(look: Look, view: View) -> Image.Image:
    """The picture, RGB, `SPEC["picture_px"]` pixels square."""
    picture = _surroundings(view)
    left, top = (PX - SIDE) // 2 + view.x, view.horizon // 2 * 2 + 10 - SIDE + view.y
    sprite = _silhouette(look.kind, look.variant, look.body)
    picture.paste(sprite, (left, top), sprite)
    x, y = MOUNTS[look.kind][look.variant]
    picture.paste(_emblem(look.pair, look.weave, look.flipped), (left + x, top + y))
    _foreground(picture, view)
    return picture.point([min(255, round(v * view.light)) for v in range(256)] * 3)


def _surroundings(view: View) -> Image.Image:
    picture = Image.new("RGB", (PX, PX), tuple(SPEC["skies"][view.sky]))
    draw = ImageDraw.Draw(picture)
    for x, y, size in view.clouds:
        for step in (-1, 0, 1):
            draw.ellipse((x + step * size - size, y - size // 2, x + step * size + size, y + size // 2), fill=(246, 246, 248))
    draw.rectangle((0, view.horizon, PX, PX), fill=tuple(SPEC["grounds"][view.ground]))
    return picture


def _foreground(picture: Image.Image, view: View) -> None:
    draw = ImageDraw.Draw(picture)
    for x, y, size in view.bushes:
        draw.ellipse((x - size, y - size, x + size, y + size), fill=(70, 110, 66))
    for x, y, size in view.birds:
        draw.line((x - size, y - size, x, y, x + size, y - size), fill=(40, 40, 44))


@cache
def _emblem(pair: int, weave: str, flipped: bool) -> Image.Image:
    """A woven patch whose 2 x 2 blocks all have the same mean; its contrast rises from the edge, so that no edge betrays it."""
    emblem = SPEC["emblem"]
    one, other = np.array(emblem["pairs"][pair], float)
    rows, columns = np.indices((emblem["px"], emblem["px"]))
    order = {"rows": rows, "columns": columns, "checker": rows + columns}[weave]
    sign = np.where((order + flipped) % 2 == 0, 1.0, -1.0)
    ramp = np.ones(emblem["px"])
    ramp[: len(emblem["ramp"])] = emblem["ramp"]
    ramp[-len(emblem["ramp"]) :] = emblem["ramp"][::-1]
    strength = sign * np.minimum(ramp[:, None], ramp[None, :])  # [px, px]
    pixels = GREY + strength[:, :, None] * (one - other) / 2
    return Image.fromarray(pixels.round().astype(np.uint8))


@lru_cache(maxsize=256)
def _silhouette(kind: str, variant: int, body: str) -> Image.Image:
    big = SIDE * OVERSAMPLING
    mask, detail = Image.new("L", (big, big), 0), Image.new("L", (big, big), 0)
    _KINDS[kind](_Pen(mask), _Pen(detail), variant)
    colour = np.array(SPEC["bodies"][body], float)
    shade = np.where(np.asarray(detail)[:, :, None] > 0, 0.62, 1.0) * colour
    sprite = Image.fromarray(shade.astype(np.uint8))
    sprite.putalpha(mask)
    return sprite.resize((SIDE, SIDE), Image.Resampling.BOX)


class _Pen:
    """Draws on an oversampled mask in pixels of the picture."""

    def __init__(self, mask: Image.Image) -> None:
        self._draw = ImageDraw.Draw(mask)

    def box(self, *xy: float, fill: int = 255) -> None:
        self._draw.rectangle([v * OVERSAMPLING for v in xy], fill=fill)

    def oval(self, *xy: float, fill: int = 255) -> None:
        self._draw.ellipse([v * OVERSAMPLING for v in xy], fill=fill)

    def polygon(self, *xy: float, fill: int = 255) -> None:
        self._draw.polygon([v * OVERSAMPLING for v in xy], fill=fill)


def _tower(mask: _Pen, detail: _Pen, variant: int) -> None:
    mask.box(20, 18, 44, 63)
    if variant == 0:
        for x in (17, 26, 35):
            mask.box(x, 8, x + 6, 19)
        mask.box(17, 14, 47, 22)
    elif variant == 1:
        mask.polygon(16, 19, 48, 19, 32, 0)
    else:
        mask.oval(18, 4, 46, 32)
    detail.box(28, 50, 36, 63)
    detail.box(20, 46, 44, 47.5)


def _bridge(mask: _Pen, detail: _Pen, variant: int) -> None:
    mask.box(2, 24, 62, 58)
    arches = ((22, 42),), ((8, 28), (36, 56)), ((6, 20), (25, 39), (44, 58))
    for left, right in arches[variant]:
        mask.oval(left, 42, right, 70, fill=0)
    detail.box(2, 38, 62, 39.5)
    if variant == 1:
        mask.oval(10, 10, 54, 44)
    if variant == 0:
        mask.box(4, 12, 12, 58)
        mask.box(52, 12, 60, 58)


def _temple(mask: _Pen, detail: _Pen, variant: int) -> None:
    mask.box(6, 22, 58, 63)
    if variant == 0:
        mask.polygon(3, 23, 61, 23, 32, 4)
    elif variant == 1:
        mask.box(2, 16, 62, 24)
    else:
        mask.box(14, 14, 50, 23)
        mask.box(22, 6, 42, 23)
    for x in ((12, 26, 48), (10, 46, 54), (12, 44, 52))[variant]:
        detail.box(x, 42, x + 4, 63)
    detail.box(6, 40, 58, 41.5)


def _mountain(mask: _Pen, detail: _Pen, variant: int) -> None:
    peaks = (((32, 4),), ((22, 12), (46, 8)), ((14, 22), (32, 6), (50, 18)))[variant]
    for x, y in peaks:
        mask.polygon(x, y, x - (63 - y) * 0.55, 63, x + (63 - y) * 0.55, 63)
        detail.polygon(x, y, x + (63 - y) * 0.55, 63, x + (63 - y) * 0.3, 63)


def _tree(mask: _Pen, detail: _Pen, variant: int) -> None:
    mask.box(27, 40, 37, 63)
    if variant == 0:
        mask.oval(8, 4, 56, 50)
    elif variant == 1:
        mask.polygon(32, 0, 12, 52, 52, 52)
    else:
        mask.oval(0, 14, 64, 46)
    detail.box(27, 52, 30, 63)


def _rock(mask: _Pen, detail: _Pen, variant: int) -> None:
    if variant == 0:
        mask.oval(4, 8, 60, 90)
        mask.oval(20, 40, 44, 80, fill=0)
    elif variant == 1:
        mask.polygon(22, 63, 24, 8, 40, 4, 44, 63)
        mask.oval(18, 2, 46, 20)
    else:
        mask.polygon(2, 63, 10, 24, 30, 16, 54, 22, 62, 63)
    detail.polygon(44, 24, 50, 44, 47, 60)


_KINDS = {"tower": _tower, "bridge": _bridge, "temple": _temple, "mountain": _mountain, "tree": _tree, "rock": _rock}

# Where the emblem's left top corner lies on the sprite, by variant: even numbers, always on the body.
MOUNTS = {
    "tower": ((26, 28), (26, 28), (26, 30)),
    "bridge": ((26, 26), (26, 24), (26, 26)),
    "temple": ((26, 26), (26, 26), (26, 26)),
    "mountain": ((24, 38), (16, 40), (26, 36)),
    "tree": ((26, 24), (26, 36), (26, 24)),
    "rock": ((26, 20), (26, 30), (26, 34)),
}
