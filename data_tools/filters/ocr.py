"""Is text in the picture, and how much: by a reader that comes in as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import PIL.Image
import PIL.ImageDraw

from ..records import Sample
from .base import Need, Signals, narrowed

GRID = 256  # points a side at which the area is counted
# of each picture its lines, each with `text` and four `corners` (x, y) as shares of width and height
ReadText = Callable[[Sequence[PIL.Image.Image]], Sequence[Sequence[Any]]]


class OcrFilter:
    """Of a sample's first picture: `ocr.lines` of text that could be read, `ocr.words` in them, and `ocr.area`, the share of the picture
    that they cover, overlaps counted once; None without a decoded picture."""

    kinds: dict[str, type] = {"ocr.lines": int, "ocr.words": int, "ocr.area": float}
    needs: frozenset[Need] = frozenset({"pixels"})
    side = 0  # the reader makes pictures smaller itself

    def __init__(self, read: ReadText, names: Sequence[str] = ()) -> None:
        self.read = read
        self.names = narrowed(self.kinds, names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        pictures = {i: s.images[0].pixels for i, s in enumerate(samples) if s.images and s.images[0].pixels is not None}
        found = self.read([p for p in pictures.values() if p is not None]) if pictures else ()
        told = {i: _of(lines) for i, lines in zip(pictures, found, strict=True)}
        return [{name: told[i][name] if i in told else None for name in self.names} for i in range(len(samples))]


def _of(lines: Sequence[Any]) -> Signals:
    words = sum(len(line.text.split()) for line in lines)
    return {"ocr.lines": len(lines), "ocr.words": words, "ocr.area": round(_covered(lines), 4)}


def _covered(lines: Sequence[Any]) -> float:
    """The share of the unit square that lies in any of the quadrilaterals."""
    mask = PIL.Image.new("L", (GRID, GRID))
    draw = PIL.ImageDraw.Draw(mask)
    for line in lines:
        draw.polygon([(float(x) * (GRID - 1), float(y) * (GRID - 1)) for x, y in line.corners], fill=1)
    return mask.histogram()[1] / GRID**2
