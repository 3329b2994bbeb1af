"""`report.html` of an evaluation: the table, bars by kind of question, failures with their pictures, what was not answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .failures import Card, card, chosen, failing, unanswered
from .scores import Scored, shown_figures
from .table import Line, flags, number

if TYPE_CHECKING:
    from markupsafe import Markup

    from .config import EvaluateConfig


class Row(NamedTuple):
    """A line of the table: a cell a model, then a cell a difference."""

    name: str
    figure: str
    lower: bool
    cells: Sequence[str]
    note: str


class Part(NamedTuple):
    """What the page says of one benchmark. heading: with the name of the world, where it is no published benchmark's."""

    heading: str
    rules: str
    chart: Markup | None
    axis: str
    cards: Sequence[Card]
    failing: Sequence[int]
    unanswered: Sequence[tuple[str, str, int, Sequence[str]]]
    notes: Sequence[str]


def write_page(root: Path, config: EvaluateConfig, table: Sequence[Line], found: Sequence[Sequence[Scored]]) -> None:
    """`found`: for each benchmark its cells, one a model."""
    from data_tools.report.bars import style
    from data_tools.report.page import put_page

    worlds = list(dict.fromkeys(line.title for line in table if line.title))
    told = {name: value for name, value in config.model_dump(mode="json").items() if value not in (None, [], {})}
    put_page(
        root / "report.html",
        __package__,
        "evaluate.html.j2",
        title=config.title,
        worlds=worlds,
        models=config.model,
        styles=[style(i) for i in range(len(config.model))],
        table=[_row(line) for line in table],
        parts=[part(cells, config.shown) for cells in found],
        config=told,
    )


def _row(line: Line) -> Row:
    values = [number(one.value, one.interval) for one in line.values]
    apart = [number(None if one.difference is None else one.difference.mean, one.difference, signed=True) for one in line.values[1:]]
    return Row(heading(line.title, line.bench), line.figure, line.lower, [*values, *apart], line.note)


def heading(title: str, bench: str) -> str:
    return f"{title}: {bench}" if title else bench


def part(cells: Sequence[Scored], shown: int) -> Part:
    from ...evals.outcome import is_lower_better

    suite = cells[0].cell.suite
    known = next((one.outcome for one in cells if one.outcome is not None), None)
    bad = {one.cell.model: failing(one, lower=known is not None and is_lower_better(suite.benchmark, known.metric)) for one in cells}
    return Part(
        heading(suite.entry.title, suite.name),
        f"{known.flavor} rules: {known.rules}" if known and known.rules else "",
        *chart(cells),
        [card(sample, cells, bad) for sample in chosen(suite, bad, shown)],
        [len(items) for items in bad.values()],
        [(one.cell.model, *told) for one in cells for told in unanswered(one)],
        list(flags(cells)),
    )


# Bars


def chart(cells: Sequence[Scored]) -> tuple[Markup | None, str]:
    """Bars by kind of question, or of the table's figures where there are no kinds; a bar a model."""
    from data_tools.report.bars import Bar, Group, bars

    from ...evals.outcome import spread

    suite = cells[0].cell.suite
    known = next((one.outcome for one in cells if one.outcome is not None), None)
    if known is None:
        return None, ""
    kinds = list(dict.fromkeys(item.kind for item in known.items if item.kind))

    def bar(one: Scored, name: str) -> Bar:
        if one.outcome is None:
            return Bar(one.cell.model, None)
        between = spread(one.outcome, one.together, name) if kinds else one.interval(name)
        return Bar(one.cell.model, *between) if between else Bar(one.cell.model, None if kinds else one.outcome.figures.get(name))

    groups = [Group(name, [bar(one, name) for one in cells]) for name in kinds or shown_figures(suite, known)]
    axis = f"{known.metric} by kind" if kinds else ""
    return bars(groups, axis=axis, name=f"{heading(suite.entry.title, suite.name)} {axis}".strip()), axis
