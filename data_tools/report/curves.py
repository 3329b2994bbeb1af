"""Curves over a few steps as inline SVG: values with a band around them, missing ones left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from .charts import WIDE, Frame, svg, text, tick


class Curve(NamedTuple):
    """One line: a CSS class of report.css (`raw`, `new`, `gone`), a label, its values and the band around them, None where unknown."""

    style: str
    label: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


class Point(NamedTuple):
    """A place in the chart, and the value that it shows."""

    x: float
    y: float
    value: float


def curves(lines: Sequence[Curve], labels: Sequence[str], *, axis: str, name: str, frame: Frame = WIDE) -> Markup:
    """Lines over `labels`; the vertical axis spans what is shown."""
    every = [v for line in lines for values in (line.values, line.low, line.high) for v in values if v is not None and math.isfinite(v)]
    ticks = ticks_of(min(every, default=0.0), max(every, default=1.0))
    step = frame.inner[0] / max(1, len(labels))
    body = [_grid(frame, ticks)]
    for line in lines:
        low, points, high = (_points(frame, values, step, ticks) for values in (line.low, line.values, line.high))
        body.append(_band(low, high, line.style) + _line(points, line))
    body += [tick(frame, frame.left + (i + 0.5) * step, label) for i, label in enumerate(labels)]
    return svg(frame, body, axis, name)


def ticks_of(low: float, high: float) -> list[float]:
    """Three to six round numbers, the first at or below `low` and the last at or above `high`."""
    if high - low < 1e-12:
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0.0, 1.0)
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _points(frame: Frame, values: Sequence[float | None], step: float, ticks: Sequence[float]) -> list[Point]:
    known = [(i, value) for i, value in enumerate(values) if value is not None and math.isfinite(value)]
    return [Point(frame.left + (i + 0.5) * step, _height(frame, value, ticks), value) for i, value in known]


def _height(frame: Frame, value: float, ticks: Sequence[float]) -> float:
    return frame.top + frame.inner[1] * (1 - (value - ticks[0]) / (ticks[-1] - ticks[0]))


def _line(points: Sequence[Point], line: Curve) -> str:
    path = "M" + "L".join(f"{p.x:.1f} {p.y:.2f}" for p in points) if points else ""
    dots = "".join(
        f'<circle class="{line.style}" cx="{p.x:.1f}" cy="{p.y:.2f}" r="3"><title>{text(line.label)}: {p.value:.4g}</title></circle>'
        for p in points
    )
    return f'<path class="line {line.style}" d="{path}"/>{dots}' if path else ""


def _band(low: Sequence[Point], high: Sequence[Point], style: str) -> str:
    if not low or len(low) != len(high):
        return ""
    edge = [*low, *reversed(high)]
    return f'<path class="area {style}" d="M{"L".join(f"{p.x:.1f} {p.y:.2f}" for p in edge)}Z"/>'


def _grid(frame: Frame, ticks: Sequence[float]) -> str:
    out = []
    for i, value in enumerate(ticks):
        y = _height(frame, value, ticks)
        style = "grid" if i else "base"
        out.append(f'<line class="{style}" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.2f}" y2="{y:.2f}"/>')
        out.append(f'<text class="num" x="{frame.left - 6}" y="{y + 3.5:.2f}">{value:g}</text>')
    return "".join(out)
