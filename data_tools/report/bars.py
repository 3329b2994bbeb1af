"""Horizontal bars in groups, with whiskers for intervals, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from .charts import Frame, svg, text, tick
from .curves import ticks_of

STYLES = ("new", "kept", "dropped", "gone")  # CSS classes of report.css, a series each
THICK, APART = 11, 8  # px of a bar, and between groups
CHARACTERS = 18  # of a group's name beside its bars


class Bar(NamedTuple):
    """One bar: whose it is, its value and the ends of its interval; no value, or nan, leaves its place empty."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


class Group(NamedTuple):
    """Bars under one name, a bar a series, in one order in all groups."""

    name: str
    bars: Sequence[Bar]


def bars(groups: Sequence[Group], *, axis: str, name: str) -> Markup:
    """Groups from top to bottom over one axis, which begins at 0 (below it where a value does)."""
    ends = [v for group in groups for bar in group.bars for v in (bar.value, bar.low, bar.high) if v is not None and math.isfinite(v)]
    ticks = ticks_of(min(0.0, min(ends, default=0.0)), max(ends, default=1.0))
    heights = [len(group.bars) * THICK + APART for group in groups]
    frame = Frame(height=10 + sum(heights) + 38, left=118)
    body, y = [_grid(frame, ticks)], float(frame.top)
    for group, height in zip(groups, heights, strict=True):
        body.append(_group(frame, group, y + APART / 2, ticks))
        y += height
    return svg(frame, body, axis, name)


def style(series: int) -> str:
    """The CSS class of a series; they repeat after four."""
    return STYLES[series % len(STYLES)]


def _group(frame: Frame, group: Group, top: float, ticks: Sequence[float]) -> str:
    shown = group.name if len(group.name) <= CHARACTERS else f"{group.name[: CHARACTERS - 1]}…"
    middle = top + len(group.bars) * THICK / 2 + 4
    out = [f'<text class="num" x="{frame.left - 6}" y="{middle:.1f}">{text(shown)}<title>{text(group.name)}</title></text>']
    for i, bar in enumerate(group.bars):
        if bar.value is not None and math.isfinite(bar.value):
            out.append(_bar(frame, bar, style(i), top + i * THICK, ticks))
    return "".join(out)


def _bar(frame: Frame, bar: Bar, kind: str, y: float, ticks: Sequence[float]) -> str:
    assert bar.value is not None
    start, end = sorted((_x(frame, 0.0, ticks), _x(frame, bar.value, ticks)))
    told = f"{text(bar.label)}: {bar.value:.4g}"
    shape = f'x="{start:.1f}" y="{y + 1:.1f}" width="{max(end - start, 0.8):.1f}" height="{THICK - 2}"'
    if bar.low is None or bar.high is None:
        return f'<rect class="{kind}" {shape}><title>{told}</title></rect>'
    told += f" [{bar.low:.4g}, {bar.high:.4g}]"
    middle = y + THICK / 2
    low, high = (_x(frame, v, ticks) for v in (bar.low, bar.high))
    whisker = f'<line class="base" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    return f'<rect class="{kind}" {shape}><title>{told}</title></rect>{whisker}'


def _x(frame: Frame, value: float, ticks: Sequence[float]) -> float:
    return frame.left + frame.inner[0] * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _grid(frame: Frame, ticks: Sequence[float]) -> str:
    floor, out = frame.top + frame.inner[1], []
    for value in ticks:
        x = _x(frame, value, ticks)
        out.append(f'<line class="{"base" if value == 0 else "grid"}" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{floor}"/>')
        out.append(tick(frame, x, f"{value:g}"))
    return "".join(out)
