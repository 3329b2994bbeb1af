"""Small charts as inline SVG, coloured by CSS classes so that they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from .visible import visible

LENGTH_BINS = 32


class Series(NamedTuple):
    """One colour of a chart: a CSS class of report.css (`kept`, `new`, `raw`, `gone`), a label and its counts."""

    style: str
    label: str
    values: Sequence[int]


class Frame(NamedTuple):
    """Size of a chart in SVG units, and its margins."""

    width: int = 344
    height: int = 200
    left: int = 40
    right: int = 8
    top: int = 10
    bottom: int = 38

    @property
    def inner(self) -> tuple[int, int]:
        return self.width - self.left - self.right, self.height - self.top - self.bottom


WIDE = Frame()
SMALL = Frame(width=224, height=112, left=8, right=8, top=8, bottom=22)


def columns(
    series: Sequence[Series], labels: Sequence[str], *, axis: str, name: str, frame: Frame = WIDE, top: int | None = None
) -> Markup:
    """Stacked columns, one for each label (an empty label leaves its tick out); charts with one `top` compare by eye."""
    ticks = round_ticks(tallest(series) if top is None else top)
    step = frame.inner[0] / max(1, len(labels))
    body = [_grid(frame, ticks)]
    for i, label in enumerate(labels):
        body.append(_column(frame, series, i, step, ticks[-1]))
        body.append(tick(frame, frame.left + (i + 0.5) * step, label))
    return svg(frame, body, axis, name)


def reliability(bins: Sequence[tuple[float, float, int]], *, name: str, frame: Frame = WIDE) -> Markup:
    """A reliability diagram: for each bin its mean probability, the share of it that is true, and its size. What is calibrated lies on
    the diagonal; a dot is the larger the more there are in its bin."""
    left, top, (width, height) = frame.left, frame.top, frame.inner
    floor, most = top + height, max((n for _, _, n in bins), default=1)
    body = [_grid(frame, (0, 25, 50, 75, 100)), f'<line class="base" x1="{left}" y1="{floor}" x2="{left + width}" y2="{top}"/>']
    for mean, true, n in bins:
        place = f'cx="{left + mean * width:.1f}" cy="{floor - true * height:.2f}" r="{3 + 7 * math.sqrt(n / most):.1f}"'
        body.append(f'<circle class="new" {place} opacity="0.75"><title>{n:,} claims: {mean:.2f} said, {true:.2f} true</title></circle>')
    body += [tick(frame, left + share * width, f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return svg(frame, body, "probability of yes; up: percent that is true", name)


def tallest(series: Sequence[Series]) -> int:
    return max((sum(stack) for stack in zip(*(s.values for s in series), strict=True)), default=0)


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
    return f'<rect class="{s.style}" {shape}><title>{text(s.label)}: {n:,}</title></rect>'


def overlay(series: Sequence[Series], edges: Sequence[int], *, axis: str, name: str, frame: Frame = WIDE) -> Markup:
    """Step outlines over each other; `edges` are the lower edges of the bins (the last bin is open above)."""
    ticks = round_ticks(max((max(s.values, default=0) for s in series), default=0))
    step = frame.inner[0] / max(1, len(edges))
    body = [_grid(frame, ticks)]
    body += [_steps(frame, s, step, ticks[-1]) for s in series]
    body += [tick(frame, frame.left + (i + 0.5) * step, label) for i, label in _edge_labels(edges)]
    return svg(frame, body, axis, name)


def _edge_labels(edges: Sequence[int]) -> list[tuple[int, str]]:
    """About seven of the edges; the last as "n+", with room before it."""
    last, every = len(edges) - 1, max(1, math.ceil(len(edges) / 7))
    some = [(i, f"{edges[i]:,}") for i in range(0, last, every) if last - i >= every * 0.75]
    return [*some, (last, f"{edges[last]:,}+")]


def _steps(frame: Frame, s: Series, step: float, top: int) -> str:
    floor = frame.top + frame.inner[1]
    points: list[tuple[float, float]] = [(frame.left, floor)]
    for i, n in enumerate(s.values):
        y = floor - n / top * frame.inner[1]
        points += [(frame.left + i * step, y), (frame.left + (i + 1) * step, y)]
    points.append((frame.left + len(s.values) * step, floor))
    path = "M" + "L".join(f"{x:.1f} {y:.2f}" for x, y in points)
    return f'<path class="area {s.style}" d="{path}Z"/><path class="line {s.style}" d="{path}"><title>{text(s.label)}</title></path>'


def length_bins(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """(lower edges, before, after): equal bins; the last takes all that is far beyond the 95th percentile."""
    high = max(_upper(before), _upper(after), 1)
    width = max(1, math.ceil((high + 1) / LENGTH_BINS))
    n = high // width + 1
    return [i * width for i in range(n)], _binned(before, width, n), _binned(after, width, n)


def _upper(bins: Sequence[tuple[int, int]]) -> int:
    """1.5 times the 95th percentile, or the longest where that is shorter: one runaway caption must not flatten the chart."""
    total, seen = sum(n for _, n in bins), 0
    for value, n in bins:
        seen += n
        if seen >= 0.95 * total:
            return min(bins[-1][0], math.ceil(1.5 * value))
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


def tick(frame: Frame, x: float, label: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{frame.top + frame.inner[1] + 14}">{text(label)}</text>' if label else ""


def text(words: str) -> Markup:
    return escape(visible(words))


def svg(frame: Frame, body: Sequence[str], axis: str, name: str) -> Markup:
    x, y = frame.left + frame.inner[0] / 2, frame.height - 4
    caption = f'<text class="tick axis" x="{x:.1f}" y="{y}">{text(axis)}</text>' if axis else ""
    head = f'<svg class="chart" viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{text(name)}">'
    return Markup(head + "".join(body) + caption + "</svg>")
