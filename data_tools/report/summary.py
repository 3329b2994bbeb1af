"""The figures of a run, worked out of its statistics: what `report.json` holds and the page shows."""

from __future__ import annotations

from typing import Any

from .sketches import Histogram, TextSketch, jensen_shannon
from .stats import ACTIONS, RESCORED, SCORE_UNITS, SHARE_BINS, SHARE_UNITS, Stats

SCHEMA = 1
NAMES = {"keep": "kept", "rewrite": "rewritten", "drop": "dropped", "quarantine": "quarantined"}
ASPECTS = ("overall", "text_quality", "image_text_matching", "object_detail", "semantic_understanding", "text_chart_description")


def summarise(stats: Stats) -> dict[str, Any]:
    """All numbers as plain JSON; shares and divergences rounded to 6 decimals, None where there is nothing to measure."""
    raw, output = stats.raw_texts(), stats.output_texts()
    before, after = stats.texts["before"], stats.texts["after"]
    return {
        "schema": SCHEMA,
        "counts": counts(stats),
        "reasons": {NAMES[a]: reasons(stats, a) for a in ACTIONS},
        "parse_status": dict(stats.parse.ranked()),
        "scores": {name: score(stats, name) for name in score_names(stats)},
        "p_rewrite": {NAMES[a]: share(stats.p_rewrite[a]) for a in ACTIONS if stats.p_rewrite[a].count},
        "text": {
            "raw": text(raw),
            "output": text(output),
            "rewritten_before": text(before),
            "rewritten_after": text(after),
            "js_divergence_raw_output": rounded(jensen_shannon(raw, output)),
            "js_divergence_rewritten": rounded(jensen_shannon(before, after)),
            "edit_distance_rewritten": share(stats.edit),
            "names_kept_rewritten": share(stats.names_kept),
        },
    } | ({"signals": stats.signals.summary()} if stats.signals.rows else {})


def counts(stats: Stats) -> dict[str, int]:
    done = {NAMES[a]: stats.actions[a] for a in ACTIONS}
    return {
        "rows": stats.rows,
        **done,
        "output": done["kept"] + done["rewritten"],
        "unparsable": stats.unparsable,
        "duplicates": stats.duplicates,
    }


def reasons(stats: Stats, action: str) -> dict[str, int]:
    """By frequency; `(no reason given)` where the verdict had none, `(other)` for what the bounded counter summed up."""
    counter = stats.reasons[action]
    silent = stats.actions[action] - counter.total
    rest = {"(other)": counter.other} if counter.other else {}
    return {**dict(counter.ranked()), **rest, **({"(no reason given)": silent} if silent else {})}


def score_names(stats: Stats) -> list[str]:
    """Overall and the aspects in the order of the answer, then any other name by alphabet."""
    names = {n.removesuffix(RESCORED) for n in stats.scores}
    return sorted(names, key=lambda n: (ASPECTS.index(n) if n in ASPECTS else len(ASPECTS), n))


def score(stats: Stats, name: str) -> dict[str, Any]:
    """`raw`: of all captions as read. `after`: of the captions written, where known: kept ones, and rewrites scored again
    (those alone: `rescored`)."""
    by_action = stats.scores.get(name, {})
    again = stats.scores.get(name + RESCORED, {})
    after = [h for h in (by_action.get("keep"), again.get("rewrite")) if h is not None]
    return {
        "raw": levels(joined(list(by_action.values()))),
        **{NAMES[a]: levels(by_action[a]) for a in ACTIONS if a in by_action},
        "after": levels(joined(after)),
        "rescored": levels(again.get("rewrite", Histogram())),
    }


def joined(parts: list[Histogram]) -> Histogram:
    out = Histogram()
    for part in parts:
        out.merge(part)
    return out


def levels(histogram: Histogram) -> dict[str, Any]:
    """Scores 1-10, rounded half up into `histogram` (ten counts); `outside` counts values beyond the scale."""
    ten = [histogram.bins.get(level, 0) for level in range(1, 11)]
    return {
        "n": histogram.count,
        "mean": mean(histogram, SCORE_UNITS),
        "median": histogram.quantile(0.5),
        "histogram": ten,
        "outside": histogram.count - sum(ten),
    }


def share(histogram: Histogram) -> dict[str, Any]:
    """Values from 0 to 1 in 20 equal bins."""
    bins = [histogram.bins.get(i, 0) for i in range(SHARE_BINS)]
    return {"n": histogram.count, "mean": mean(histogram, SHARE_UNITS), "histogram": bins}


def text(sketch: TextSketch) -> dict[str, Any]:
    lengths = sketch.lengths
    return {
        "n": lengths.count,
        "words": {"mean": mean(lengths, 1), "median": lengths.quantile(0.5), "p95": lengths.quantile(0.95)},
        "chars_mean": rounded(sketch.chars / lengths.count) if lengths.count else None,
        "distinct_1": rounded(sketch.distinct(1)),
        "distinct_2": rounded(sketch.distinct(2)),
        "words_histogram": lengths.to_dict()["bins"],
    }


def mean(histogram: Histogram, units: int) -> float | None:
    return rounded(histogram.total / units / histogram.count) if histogram.count else None


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
