"""Writes `report.html` (one self-contained page, no script, nothing fetched) and `report.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ..disk.durable import to_json, write_atomic
from .charts import SMALL, Series, columns, length_bins, overlay, tallest
from .diff import Span, word_diff
from .gallery import CRISP_SIDE, Gallery, Item
from .page import css, environment, figure, label
from .stats import RESCORED, Stats
from .summary import ASPECTS, NAMES, summarise
from .visible import visible

FIRST = 8  # rewritten rows shown before "more"
FIRST_OTHERS = 4
UNDERSTOOD = ("title", "domain", "model", "policy", "source", "output", "rows_in", "notes", "config", "timing")
STYLES = {"keep": "kept", "rewrite": "new", "drop": "dropped", "quarantine": "gone"}
SIGNAL_BINS = 20
SHARE_LABELS = ["0" if i == 0 else "0.5" if i == 10 else "1" if i == 19 else "" for i in range(20)]


def write_report(out_dir: str | os.PathLike[str], stats: Stats, *, title: str, run: Mapping[str, Any]) -> None:
    """Write both files under `out_dir` (made if absent), each by temporary name, fsync and rename.

    `run` says what ran. Understood, all optional: `title` (wins over the argument) and `domain` (shown with it), `model`
    (id or a mapping), `policy`, `source`, `output`, `rows_in` (checked against the counts), `notes` (sentences shown on
    top), `config` (mapping, shown as YAML), `timing` (mapping of name to number); anything else is listed under the
    configuration. Values that are not JSON are written as text. Raises `OSError` when the place cannot be written.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plain_run = plain(run)
    summary = summarise(stats)
    heading = str(plain_run.get("title") or title)
    write_atomic(folder / "report.html", render(stats, summary, heading, plain_run).encode("utf-8", "replace"))
    numbers = {**summary, "title": heading, "identity": identity(summary["counts"], plain_run), "run": plain_run}
    write_atomic(folder / "report.json", to_json(numbers))


def plain(value: Any) -> Any:
    """The same value in JSON's own types; what has none becomes its text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | int | float | None):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [plain(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    return str(value)


def identity(counts: Mapping[str, int], run: Mapping[str, Any]) -> dict[str, Any]:
    """rows in = kept + rewritten + dropped + quarantined; `holds` compares with `run["rows_in"]` where the pipeline counted too."""
    rows_in = counts["rows"] if run.get("rows_in") is None else run["rows_in"]
    parts = {name: counts[name] for name in NAMES.values()}
    return {"rows_in": rows_in, **parts, "holds": rows_in == sum(parts.values())}


def render(stats: Stats, summary: Mapping[str, Any], title: str, run: Mapping[str, Any]) -> str:
    """The page as one string."""
    page = _environment().get_template("report.html.j2")
    text = page.render(
        title=title,
        run=dict.fromkeys(UNDERSTOOD) | dict(run),
        extra={k: v for k, v in run.items() if k not in UNDERSTOOD},
        counts=summary["counts"],
        identity=identity(summary["counts"], run),
        summary=summary,
        gallery=stats.gallery,
        sections=_sections(stats.gallery),
        charts=_charts(summary),
        signal_charts=_signal_charts(summary),
        first=FIRST,
        first_others=FIRST_OTHERS,
        css=css(),
    )
    return text.lstrip()


def _sections(gallery: Gallery) -> dict[str, list[Item]]:
    """The rows by section; a refused rewrite that is among the worst already is not shown twice."""
    worst = {rank[1:] for rank, _ in gallery.shown["worst"].items}
    return {
        name: [item for rank, item in reservoir.items if name != "refused" or rank[1:] not in worst]
        for name, reservoir in gallery.shown.items()
    }


def _environment() -> Environment:
    env = environment("data_tools.report")
    env.globals |= {"word_diff": shown_diff, "is_crisp": is_crisp, "ordered_scores": ordered_scores, "STYLES": STYLES, "NAMES": NAMES}
    return env


def shown_diff(before: str | None, after: str | None) -> tuple[list[Span], list[Span]]:
    return word_diff(visible(before), visible(after))


def is_crisp(item: Item) -> bool:
    """Small pictures are enlarged without smoothing."""
    picture = item.resolve()
    return picture is not None and max(picture.width, picture.height) <= CRISP_SIDE


def ordered_scores(scores: Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    first = ("overall", "overall" + RESCORED, *ASPECTS[1:])
    known = [(n, scores[n]) for n in first if n in scores]
    return known + sorted((n, v) for n, v in scores.items() if n not in first)


def _charts(summary: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"aspects": _aspect_charts(summary["scores"])}
    if "overall" in summary["scores"]:
        figures, levels = summary["scores"]["overall"], [str(i) for i in range(1, 11)]
        if figures["raw"]["n"]:
            out["raw"] = columns(_by_action(figures), levels, axis="overall score", name="Overall score of the captions as read")
        if figures["after"]["n"]:
            out["after"] = columns(
                _written(figures), levels, axis="overall score", name="Overall score of the captions written, where known"
            )
    if summary["p_rewrite"]:
        out["p_rewrite"] = columns(_by_action(summary["p_rewrite"]), SHARE_LABELS, axis="probability of a rewrite", name="p_rewrite")
    return out | _text_charts(summary["text"])


def _signal_charts(summary: Mapping[str, Any]) -> dict[str, Markup]:
    """A small chart of each signal that is a number and differs among rows."""
    told = summary.get("signals", {}).get("signals", {})
    return {name: _signal_chart(name, figures) for name, figures in told.items() if figures.get("max", 0) != figures.get("min", 0)}


def _signal_chart(name: str, figures: Mapping[str, Any]) -> Markup:
    """Columns of equal width from the least value to the 95th percentile's double reach; what is beyond stands in the last."""
    low, high = figures["min"], figures["max"]
    top = min(high, low + 2 * (figures["p95"] - low)) if figures["p95"] > low else high
    width = (top - low) / SIGNAL_BINS
    counts = [0] * SIGNAL_BINS
    for value, n in figures["histogram"]:
        counts[max(0, min(SIGNAL_BINS - 1, int((value - low) / width)))] += n
    ends = [figure(low), *[""] * (SIGNAL_BINS - 2), f"{figure(top)}{'' if top == high else '+'}"]
    return columns([Series("raw", "rows", counts)], ends, axis="", name=name, frame=SMALL)


def _written(figures: Mapping[str, Any]) -> list[Series]:
    series = [(action, figures[source]["histogram"]) for action, source in (("keep", "kept"), ("rewrite", "rescored")) if source in figures]
    return [Series(STYLES[action], NAMES[action], values) for action, values in series]


def _aspect_charts(scores: Mapping[str, Any]) -> dict[str, Markup]:
    aspects = {name: _by_action(figures) for name, figures in scores.items() if name != "overall" and figures["raw"]["n"]}
    top = max(map(tallest, aspects.values()), default=0)
    ends = ["1", *[""] * 3, "5", *[""] * 4, "10"]
    return {
        name: columns(series, ends, axis="", name=f"{label(name)} score, captions as read", frame=SMALL, top=top)
        for name, series in aspects.items()
    }


def _by_action(figures: Mapping[str, Any]) -> list[Series]:
    return [Series(STYLES[a], NAMES[a], figures[NAMES[a]]["histogram"]) for a in NAMES if NAMES[a] in figures]


def _text_charts(text: Mapping[str, Any]) -> dict[str, Any]:
    edit = [Series("new", "rewritten", text["edit_distance_rewritten"]["histogram"])]
    return {
        "lengths": _lengths(text["raw"], text["output"], "Caption length in words, raw and output, all rows"),
        "lengths_rewritten": _lengths(text["rewritten_before"], text["rewritten_after"], "Length of rewritten captions, before and after"),
        "edit": columns(edit, SHARE_LABELS, axis="normalised edit distance", name="Edit distance of rewritten captions"),
    }


def _lengths(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> Markup:
    edges, old, new = length_bins(before["words_histogram"], after["words_histogram"])
    return overlay([Series("raw", "before", old), Series("new", "after", new)], edges, axis="words in a caption", name=name)
