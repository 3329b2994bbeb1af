"""A contact sheet: small pictures in rows, each with a line of text under it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import PIL.Image

GAP, LINE, HEAD = 8, 18, 26
PAPER, INK, FAINT = (250, 250, 248), (25, 25, 25), (110, 110, 110)


def contact_sheet(
    pictures: Iterable[PIL.Image.Image], labels: Sequence[str], *, title: str, width: int, height: int, columns: int | None = None
) -> PIL.Image.Image:
    """Pictures of one size, each with its label under it, `columns` a row (default: so that the sheet is a little wider than high).

    pictures are taken one at a time. title: a line on top. width, height: of each picture on the sheet.
    """
    from PIL import Image, ImageDraw

    columns = min(columns or _columns(len(labels), width, height), len(labels))
    across, down = width + GAP, height + LINE + GAP
    sheet = Image.new("RGB", (columns * across + GAP, math.ceil(len(labels) / columns) * down + HEAD + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (GAP, GAP), title, sheet.width - 2 * GAP, INK, 14)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = GAP + i % columns * across, HEAD + GAP + i // columns * down
        sheet.paste(picture.convert("RGB").resize((width, height)), (x, y))
        _write(draw, (x, y + height + 2), label, width, FAINT, 12)
    return sheet


def _columns(count: int, width: int, height: int) -> int:
    """The number at which width over height comes next above 4 / 3."""
    return next(n for n in range(1, count + 1) if n == count or n * width / (math.ceil(count / n) * (height + LINE)) >= 4 / 3)


def _write(draw: Any, place: tuple[int, int], text: str, width: int, colour: tuple[int, int, int], size: int) -> None:
    """A line, cut where it would leave its width."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=size)
    while text and draw.textlength(text, font=font) > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    draw.text(place, text, fill=colour, font=font)
