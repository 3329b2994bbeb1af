"""What a feedback run came to, in numbers: report.json."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import FeedbackConfig
    from .folder import Session

log = logging.getLogger(__name__)
MUCH_OUTSIDE = 0.5


def summarise(run: Session, near: float) -> dict[str, Any]:
    """Stages, answers, the judge's answers, scores and pairs; `usage`: what models were asked in this start; `endpoint`: what endpoints
    were asked over all starts, where any was."""
    asked = run.spent()
    return {
        "stages": run.summaries,
        "answers": _answers(run.root),
        "judge": judged(run.root, near),
        "scores": _scores(run.root),
        "pairs": _pairs(run.root),
        "usage": {stage: asdict(usage) for stage, usage in run.models.used.items()},
        **({"endpoint": asked} if asked else {}),
    }


def _answers(root: Path) -> dict[str, Any]:
    from ...rlaif.files import responses

    words: list[int] = []
    truncated = 0
    for response in responses(root):
        words.append(len(response.text.split()))
        truncated += response.truncated
    return {"n": len(words), "words": _mean(words), "truncated": truncated}


def judged(root: Path, near: float) -> dict[str, Any]:
    """Claims and how many are rejected; mean probability of neither yes nor no; how many lie near the threshold p(yes) = p(no)."""
    from ...rlaif.files import judged_claims
    from ...rlaif.judge import outside, rejected

    n = gone = close = 0
    lost = 0.0
    for claim in judged_claims(root):
        n += 1
        gone += rejected(claim)
        lost += outside(claim)
        close += abs((claim.p_yes or 0.0) - (claim.p_no or 0.0)) <= near
    return {"claims": n, "rejected": gone, "outside": round(lost / n, 6) if n else 0.0, "near": close, "near_is": near}


def _scores(root: Path) -> dict[str, Any]:
    from ...rlaif.files import scores

    values = Counter(score.value for score in scores(root))
    n = values.total()
    histogram = {f"{value:g}": values[value] for value in sorted(values)} if len(values) <= 64 else {}
    return {"n": n, "mean": round(sum(value * k for value, k in values.items()) / n, 4) if n else 0.0, "histogram": histogram}


def _pairs(root: Path) -> dict[str, Any]:
    rows = list(pair_lengths(root))
    chosen, rejected, margins = ([row[k] for row in rows] for k in range(3))
    return {"n": len(rows), "words_chosen": _mean(chosen), "words_rejected": _mean(rejected), "margin": _mean(margins)}


def pair_lengths(root: Path) -> Iterator[tuple[int, int, float]]:
    """Words of the chosen and of the rejected answer of each pair, and its margin."""
    with (root / "pairs.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield len(row["chosen"].split()), len(row["rejected"].split()), row["margin"]


def _mean(values: list[Any]) -> float:
    return round(sum(values) / len(values), 3) if values else 0.0


def write(root: Path, summary: Mapping[str, Any], config: FeedbackConfig) -> None:
    """report.json and feedback.html."""
    from data_tools.disk.durable import to_json, write_atomic

    from .report import write_page

    write_atomic(root / "report.json", to_json({**summary, "config": config.model_dump(mode="json")}))
    write_page(root, summary, config)


def told(summary: Mapping[str, Any]) -> str:
    """What the judge said, for people."""
    judge = summary["judge"]
    if not judge["claims"]:
        return "judged: no claim"
    share, outside = judge["rejected"] / judge["claims"], judge["outside"]
    return (
        f"judged: {judge['claims']} claims, {share:.1%} rejected; {outside:.2%} of the probability goes to neither yes nor no; "
        f"within {judge['near_is']:g} of the threshold: {judge['near']}"
    )


def warn(summary: Mapping[str, Any]) -> None:
    """Say what makes the pairs few or doubtful."""
    log.info("%s", told(summary))
    if summary["judge"]["outside"] > MUCH_OUTSIDE:
        log.warning(
            "WARNING: the judge says neither yes nor no: %.0f%% of its probability goes to other words, so its rejections mean little. "
            "Try another judge or another ending of the questions, or let such answers leave with scores.max_outside.",
            100 * summary["judge"]["outside"],
        )
    if not summary["pairs"]["n"]:
        reasons = {name: stage["reasons"] for name, stage in summary["stages"].items() if stage["reasons"]}
        log.warning("WARNING: no pair came out of %d scored answers; quarantined: %s", summary["scores"]["n"], reasons or "none")
