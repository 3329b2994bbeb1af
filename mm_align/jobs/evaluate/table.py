"""The one table of an evaluation: a line a figure, a column a model, with intervals; behind them how each model differs from the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .scores import Scored, shown_figures

if TYPE_CHECKING:
    from ...evals.intervals import Interval


class Value(NamedTuple):
    """A figure of one model, its interval, and its paired difference to the first model where both are known."""

    value: float | None
    interval: Interval | None = None
    difference: Interval | None = None


class Line(NamedTuple):
    """A figure of a benchmark, one value a model. lower: less is better. note: what stands in place of values, where there are none."""

    bench: str
    title: str
    figure: str
    lower: bool
    values: Sequence[Value]
    note: str = ""


def lines(found: Sequence[Sequence[Scored]]) -> Iterator[Line]:
    """`found`: for each benchmark its cells, one a model."""
    for cells in found:
        yield from _of_bench(cells)


def _of_bench(cells: Sequence[Scored]) -> Iterator[Line]:
    from ...evals.outcome import is_lower_better

    suite = cells[0].cell.suite
    known = next((one.outcome for one in cells if one.outcome is not None), None)
    if known is None:
        yield Line(suite.name, suite.entry.title, "", False, [Value(None)] * len(cells), cells[0].trouble)
        return
    for figure in shown_figures(suite, known):
        values = [_value(figure, one, cells[0]) for one in cells]
        yield Line(suite.name, suite.entry.title, figure, is_lower_better(suite.benchmark, figure), values)


def _value(figure: str, one: Scored, first: Scored) -> Value:
    from ...evals.outcome import difference

    if one.outcome is None or figure not in one.outcome.figures:
        return Value(None)
    apart = None
    if one is not first and first.outcome is not None and figure == one.outcome.metric:
        apart = difference(one.outcome, first.outcome, one.together)
    return Value(one.outcome.figures[figure], one.interval(figure), apart)


# For a terminal


def as_text(models: Sequence[str], table: Sequence[Line]) -> str:
    """The table in columns."""
    rows = [["", "", *models, *(f"{name} - {models[0]}" for name in models[1:])]]
    told = dict.fromkeys(line.title for line in table)
    for title in told:
        if title:
            rows.append([f"{title}:"])
        rows += [_row(line) for line in table if line.title == title]
    widths = [max(len(row[i]) for row in rows if i < len(row) and len(row) > 1) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows)


def _row(line: Line) -> list[str]:
    if not line.figure:
        return [line.bench, line.note]
    name = f"{line.figure} (less is better)" if line.lower else line.figure
    values = [number(one.value, one.interval) for one in line.values]
    apart = [number(None if one.difference is None else one.difference.mean, one.difference, signed=True) for one in line.values[1:]]
    return [line.bench, name, *values, *apart]


def number(value: float | None, interval: Interval | None, *, signed: bool = False) -> str:
    """ "0.843 [0.812, 0.871]", with the digits that a value of its size deserves."""
    if value is None:
        return "-"
    digits = 3 if abs(value) < 10 else 2
    sign = "+" if signed else ""
    bounds = "" if interval is None else f" [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"
    return f"{value:{sign}.{digits}f}{bounds}"


def notes(found: Sequence[Sequence[Scored]]) -> Iterator[str]:
    """What has to be known beside the table: samples without an answer, what evaluators flag. `found`: as for `lines`."""
    told: dict[str, list[str]] = {}
    for cells in found:
        for text in [*_gaps(cells), *flags(cells)]:
            told.setdefault(text, []).append(cells[0].cell.suite.name)
    yield from (f"note: {', '.join(names)}: {text}" for text, names in told.items())


def _gaps(cells: Sequence[Scored]) -> Iterator[str]:
    for one in cells:
        if one.failures:
            reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(failure.reason for failure in one.failures).items())
            share = f"{len(one.failures)} of {len(one.cell.suite.samples)} samples"
            yield f"{one.cell.model}: {share} unanswered ({reasons}), counted as such"


def flags(cells: Sequence[Scored]) -> Iterator[str]:
    """What is said of a benchmark's figures; of one model alone where it holds for that one alone."""
    told = {one.cell.model: [*one.told(), *([one.trouble] if one.trouble else [])] for one in cells}
    for flag in dict.fromkeys(flag for every in told.values() for flag in every):
        whose = [model for model, every in told.items() if flag in every]
        yield flag if len(whose) == len(cells) else f"{', '.join(whose)}: {flag}"
