"""`feedback.html` and `calibration.html`: what a feedback run came to, with pictures, answers and judged claims."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from data_tools.records import Claim, PreferencePair

    from ...rlaif.calibration import Calibration
    from .config import FeedbackConfig

SHOWN_PAIRS = 12
SCORE_BINS = 24


def write_page(root: Path, summary: Mapping[str, Any], config: FeedbackConfig) -> None:
    """feedback.html, self-contained."""
    from data_tools.report.page import put_page

    told = {name: value for name, value in config.model_dump(mode="json").items() if value is not None}
    parts = {"summary": summary, "charts": charts(root, summary), "pairs": list(shown_pairs(root)), "config": told}
    put_page(root / "feedback.html", __package__, "feedback.html.j2", **parts)


def charts(root: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the answers; words of the chosen and of the rejected ones; how sure the judge was."""
    from data_tools.report.charts import Series, columns, length_bins, overlay

    from .summary import pair_lengths

    drawn: dict[str, Any] = {}
    histogram = summary["scores"]["histogram"]
    if histogram and len(histogram) <= SCORE_BINS:
        drawn["scores"] = columns(
            [Series("kept", "answers", list(histogram.values()))], list(histogram), axis="score", name="Scores of the answers"
        )
    lengths = [(chosen, rejected) for chosen, rejected, _ in pair_lengths(root)]
    if lengths:
        edges, old, new = length_bins(_counted([r for _, r in lengths]), _counted([c for c, _ in lengths]))
        series = [Series("raw", "rejected", old), Series("new", "chosen", new)]
        drawn["lengths"] = overlay(series, edges, axis="words in an answer", name="Length of chosen and rejected answers")
    sure = certainty(root)
    if sum(sure):
        labels = ["0" if k == 0 else "0.5" if k == 10 else "1" if k == 19 else "" for k in range(20)]
        drawn["certainty"] = columns(
            [Series("kept", "claims", sure)], labels, axis="p(yes) of p(yes) + p(no)", name="What the judge says of the claims"
        )
    return drawn


def _counted(values: Sequence[int]) -> list[tuple[int, int]]:
    return sorted(Counter(values).items())


def certainty(root: Path) -> list[int]:
    """Claims by p(yes) / (p(yes) + p(no)), in twenty bins."""
    from ...rlaif.calibration import probability
    from ...rlaif.files import judged_claims

    bins = [0] * 20
    for claim in judged_claims(root):
        bins[min(int(probability(claim) * 20), 19)] += 1
    return bins


class Side(NamedTuple):
    """One answer of a pair: its text and its judged claims with whether each is rejected."""

    name: str
    text: str
    claims: Sequence[tuple[Claim, bool]]


class ShownPair(NamedTuple):
    """A pair as the page shows it."""

    id: str
    picture: Any
    question: str
    margin: float
    sides: tuple[Side, Side]


def shown_pairs(root: Path) -> Iterator[ShownPair]:
    """A few pairs, the same at every start: those of the smallest hashes."""
    from data_tools.preference import read_pairs
    from data_tools.records import PreferencePair
    from data_tools.report.gallery import thumbnail

    from ...rlaif.files import prompt_text

    found = (pair for pair in read_pairs(root / "pairs.jsonl", format="mm_align") if isinstance(pair, PreferencePair))
    few = heapq.nsmallest(SHOWN_PAIRS, enumerate(found), key=lambda row: (_rank(row[1]), row[0]))
    claims = _claims_of(root, {name for _, pair in few for name in _answers(pair)})
    for _, pair in few:
        sides = (
            Side(side, text, claims.get(name, []))
            for side, text, name in zip(("chosen", "rejected"), (pair.chosen, pair.rejected), _answers(pair), strict=True)
        )
        picture = thumbnail(pair.sample.images[0]) if pair.sample.images else None
        yield ShownPair(pair.sample.id, picture, prompt_text(pair.sample), pair.margin, (next(sides), next(sides)))


def _answers(pair: PreferencePair) -> tuple[str, str]:
    told = pair.sample.meta.get("feedback", {})
    return str(told.get("chosen_id")), str(told.get("rejected_id"))


def _rank(pair: PreferencePair) -> bytes:
    return hashlib.sha256("\n".join(_answers(pair)).encode("utf-8", "surrogatepass")).digest()


def _claims_of(root: Path, wanted: set[str]) -> dict[str, list[tuple[Claim, bool]]]:
    from ...rlaif.files import judged_claims
    from ...rlaif.judge import rejected

    found: dict[str, list[tuple[Claim, bool]]] = {}
    for claim in judged_claims(root):
        if claim.response_id in wanted:
            found.setdefault(claim.response_id, []).append((claim, rejected(claim)))
    return found


def write_calibration_page(root: Path, found: Calibration) -> None:
    """calibration.html, self-contained."""
    from data_tools.report.charts import reliability
    from data_tools.report.page import put_page

    diagram = reliability([(one.mean, one.true, one.n) for one in found.bins], name="Reliability diagram")
    put_page(root / "calibration.html", __package__, "calibration.html.j2", found=found, diagram=diagram)
