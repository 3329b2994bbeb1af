"""Writes the page of rounds of training: figures round by round, and what each round's model says of the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..records import Image
from .curves import Curve, curves
from .gallery import CRISP_SIDE, cut, thumbnail
from .page import put_page

HIDDEN = ("rows", "unanswered")  # counts of a benchmark, the same in every round


class Chart(NamedTuple):
    """A figure with its caption."""

    name: str
    note: str
    image: Markup


@dataclass(frozen=True)
class Shown:
    """A picture, what is asked about it, and the answers: one a round, the start first; None where there is none."""

    question: str
    answers: Sequence[str | None]
    image: Image | None = None


@dataclass(frozen=True)
class Round:
    """What is known of a round's model; round 0 is the start. `figures`: SUITE/METRIC -> value, bounds as METRIC_low and METRIC_high.
    feedback: of the round's candidates, so of the model before it."""

    number: int
    figures: Mapping[str, float] = field(default_factory=dict)
    feedback: Mapping[str, float | None] = field(default_factory=dict)
    drift: Mapping[str, float | None] = field(default_factory=dict)
    step: int | None = None


def write_rounds(
    path: Path, rounds: Sequence[Round], shown: Sequence[Shown], *, title: str, main: str = "", run: Mapping[str, Any] | None = None
) -> None:
    """Write the page, by temporary name, fsync and rename. main: the figure that stands for all. run: its configuration."""
    put_page(
        path,
        "data_tools.report",
        "rounds.html.j2",
        title=title,
        main=main,
        rounds=rounds,
        labels=labels(rounds),
        names=names(rounds),
        charts=charts(rounds),
        cards=[card(one) for one in shown],
        run=run or {},
        crisp=CRISP_SIDE,
    )


def labels(rounds: Sequence[Round]) -> list[str]:
    return ["start" if not one.number else str(one.number) for one in rounds]


def names(rounds: Sequence[Round]) -> list[str]:
    """The figures that any round has, without bounds and counts."""
    every = dict.fromkeys(name for one in rounds for name in one.figures)
    return [n for n in every if not n.endswith(("_low", "_high")) and n.rpartition("/")[2] not in HIDDEN]


def charts(rounds: Sequence[Round]) -> list[Chart]:
    """One for each figure, the judge's scores, and the drift."""
    found = [_figure(rounds, name) for name in names(rounds)]
    later = [one for one in rounds if one.number]
    if any(one.feedback for one in later):
        score = Curve("raw", "mean score", [one.feedback.get("score") for one in later])
        found.append(_chart("Reward", "mean judge's score of the candidates that a round begins with", later, [score]))
    if any(one.drift for one in later):
        moved = [Curve(style, name, [one.drift.get(name) for one in later]) for style, name in (("new", "chosen"), ("gone", "rejected"))]
        note = "log-probability of the round's chosen (green) and rejected answers (red), after minus before"
        found.append(_chart("Drift of the pairs", note, later, moved))
        kl = [Curve("raw", "from the start", [one.drift.get("kl_start") for one in later])]
        note = "KL divergence to the start model, estimated on answers of the model's own, an answer"
        found.append(_chart("Drift from the start", note, later, kl))
    return found


def _figure(rounds: Sequence[Round], name: str) -> Chart:
    values, low, high = ([one.figures.get(f"{name}{end}") for one in rounds] for end in ("", "_low", "_high"))
    banded = all(value is not None for value in [*low, *high])
    note = "with its 95 % interval" if banded else ""
    return _chart(name, note, rounds, [Curve("new", name, values, *((low, high) if banded else ()))])


def _chart(name: str, note: str, rounds: Sequence[Round], lines: Sequence[Curve]) -> Chart:
    return Chart(name, note, curves(lines, labels(rounds), axis="round", name=f"{name} by round"))


def card(one: Shown) -> dict[str, Any]:
    """A picture and its answers as the page takes them; every text is cut."""
    return {
        "question": cut(one.question, 300),
        "answers": [("start" if not i else f"round {i}", cut(text)) for i, text in enumerate(one.answers)],
        "picture": thumbnail(one.image) if one.image is not None else None,
    }
