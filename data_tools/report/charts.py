"""Small charts as inline SVG, coloured by CSS classes so that they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

LENGTH_BINS = 40


class Series(NamedTuple):
    """One colour of a chart: a CSS class of report.css (`kept`, `new`, `raw`, `gone`), a label and its counts."""

    style: str
    label: str
    values: Sequence[int]


class Frame(NamedTuple):
    """Size of a chart in SVG units, and its margins."""

    width: int = 440
    height: int = 200
    left: int = 44
    right: int = 8
    top: int = 10
    bottom: int = 36

    @property
    def inner(self) -> tuple[int, int]:
        return self.width - self.left - self.right, self.height - self.top - self.bottom


WIDE = Frame()
SMALL = Frame(width=224, height=112, left=8, right=8, top=8, bottom=22)


def columns(
    series: Sequence[Series], labels: Sequence[str], *, axis: str, name: str, frame: Frame = WIDE, top: int | None = None
) -> Markup:
    """Stacked columns, one for each label (an empty label leaves its tick out). `top` fixes the height of the scale."""
    totals = [sum(s.values[i] for s in series) for i in range(len(labels))]
    ticks = round_ticks(max(totals, default=0) if top is None else top)
    step = frame.inner[0] / max(1, len(labels))
    body = [_grid(frame, ticks)]
    for i, label in enumerate(labels):
        body.append(_column(frame, series, i, step, ticks[-1]))
        body.append(_tick(frame, frame.left + (i + 0.5) * step, label))
    return _svg(frame, body, axis, name)


def _column(frame: Frame, series: Sequence[Series], i: int, step: float, top: int) -> str:
    x, y = frame.left + i * step + step * 0.12, float(frame.top + frame.inner[1])
    out = []
    for s in series:
        if s.values[i]:
            height = s.values[i] / top * frame.inner[1]
            y -= height
            out.append(_bar(s, x, y, step * 0.76, height, s.values[i]))
    return "".join(out)


def _bar(s: Series, x: float, y: float, width: float, height: float, n: int) -> str:
    shape = f'x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{max(height, 0.8):.2f}"'
    return f'<rect class="{s.style}" {shape}><title>{escape(s.label)}: {n:,}</title></rect>'


def overlay(series: Sequence[Series], edges: Sequence[int], *, axis: str, name: str, frame: Frame = WIDE) -> Markup:
    """Step outlines over each other; `edges` are the lower edges of the bins (the last bin is open above)."""
    ticks = round_ticks(max((max(s.values, default=0) for s in series), default=0))
    step = frame.inner[0] / max(1, len(edges))
    body = [_grid(frame, ticks)]
    body += [_steps(frame, s, step, ticks[-1]) for s in series]
    every = max(1, math.ceil(len(edges) / 8))
    body += [_tick(frame, frame.left + (i + 0.5) * step, f"{edges[i]:,}") for i in range(0, len(edges), every)]
    return _svg(frame, body, axis, name)


def _steps(frame: Frame, s: Series, step: float, top: int) -> str:
    floor = frame.top + frame.inner[1]
    points = [(frame.left, floor)]
    for i, n in enumerate(s.values):
        y = floor - n / top * frame.inner[1]
        points += [(frame.left + i * step, y), (frame.left + (i + 1) * step, y)]
    points.append((frame.left + len(s.values) * step, floor))
    path = "M" + "L".join(f"{x:.1f} {y:.2f}" for x, y in points)
    return f'<path class="area {s.style}" d="{path}Z"/><path class="line {s.style}" d="{path}"><title>{escape(s.label)}</title></path>'


def length_bins(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """(lower edges, before, after): equal bins up to about the 99th percentile of both; the last takes all that is longer."""
    high = max(_percentile(before, 0.99), _percentile(after, 0.99), 1)
    width = max(1, math.ceil((high + 1) / LENGTH_BINS))
    n = high // width + 1
    return [i * width for i in range(n)], _binned(before, width, n), _binned(after, width, n)


def _percentile(bins: Sequence[tuple[int, int]], q: float) -> int:
    wanted, seen = q * sum(n for _, n in bins), 0
    for value, n in bins:
        seen += n
        if seen >= wanted:
            return value
    return 0


def _binned(bins: Sequence[tuple[int, int]], width: int, n: int) -> list[int]:
    out = [0] * n
    for value, count in bins:
        out[min(n - 1, value // width)] += count
    return out


def round_ticks(top: int) -> list[int]:
    """0 and two to five round integers, the last at or above `top`."""
    rough = max(1, top) / 4
    size = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next(int(f * size) for f in (1, 2, 2.5, 5, 10) if f * size >= rough and float(f * size).is_integer())
    return [i * step for i in range(math.ceil(max(1, top) / step) + 1)]


def _grid(frame: Frame, ticks: Sequence[int]) -> str:
    floor, out = frame.top + frame.inner[1], []
    for tick in ticks:
        y = floor - tick / ticks[-1] * frame.inner[1]
        style = "base" if tick == 0 else "grid"
        out.append(f'<line class="{style}" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.2f}" y2="{y:.2f}"/>')
        if frame.left > 20:
            out.append(f'<text class="num" x="{frame.left - 6}" y="{y + 3.5:.2f}">{tick:,}</text>')
    return "".join(out)


def _tick(frame: Frame, x: float, label: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{frame.top + frame.inner[1] + 14}">{escape(label)}</text>' if label else ""


def _svg(frame: Frame, body: Sequence[str], axis: str, name: str) -> Markup:
    x, y = frame.left + frame.inner[0] / 2, frame.height - 4
    caption = f'<text class="tick axis" x="{x:.1f}" y="{y}">{escape(axis)}</text>' if axis else ""
    head = f'<svg class="chart" viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(name)}">'
    return Markup(head + "".join(body) + caption + "</svg>")
