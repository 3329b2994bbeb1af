"""Combine: one number for each answer, minus the count of its claims that the judge rejects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from data_tools.records import Claim, Score

from ..config import JobConfig
from .files import responses, with_claims
from .judge import outside, rejected
from .stage import Done, Gone, Stage, Unit


class Scores(JobConfig):
    """What an answer's claims add up to."""

    by: Literal["rejected", "p_yes"] = Field(
        "rejected", description="rejected: minus the number of rejected claims; p_yes: the mean of p(yes) / (p(yes) + p(no))"
    )
    zero_claims: Literal["unscored", "zero"] = Field(
        "unscored", description="an answer without claims: in no pair, or scored as one of which nothing is rejected"
    )
    max_outside: float | None = Field(
        None, ge=0, le=1, description="an answer leaves where more of the judge's probability of a claim goes to neither yes nor no"
    )
    duplicate_claims_drop: bool = Field(False, description="as the reference code: an answer with two equal questions leaves")


class Judged(NamedTuple):
    """An answer's judged claims, and why it has none where it left at an earlier stage."""

    answer_id: str
    claims: Sequence[Claim]
    left: str


def scores_stage(folder: Path, options: Scores, left: Mapping[str, str]) -> Stage:
    """judged.jsonl -> scores.jsonl (Score, one an answer). `left`: answers that left at earlier stages, with their reason."""

    def units() -> Iterator[Unit]:
        for answer, claims in with_claims(folder, "judged", responses(folder)):
            told = [[claim.question, claim.p_yes, claim.p_no] for claim in claims]
            yield Unit((answer.id,), {"judged": told, "left": left.get(answer.id, "")}, Judged(answer.id, claims, left.get(answer.id, "")))

    def work(items: Sequence[Judged]) -> Sequence[Done]:
        return [_scored(item, options) for item in items]

    return Stage("scores", {"options": options.model_dump()}, units, work, 1024)


def _scored(item: Judged, options: Scores) -> Done:
    if not item.claims and item.left:
        return Done(gone=[Gone(item.answer_id, "not_judged", f"the answer left at an earlier stage: {item.left}")])
    if not item.claims and options.zero_claims == "unscored":
        return Done(gone=[Gone(item.answer_id, "no_claims", "an answer without claims has no score (zero_claims: unscored)")])
    doubt = _doubt(item, options)
    if doubt is not None:
        return Done(gone=[doubt])
    value = SCORES[options.by](item.claims)
    if not math.isfinite(value):
        return Done(gone=[Gone(item.answer_id, "not_a_number", f"the score is {value}")])
    n = sum(map(rejected, item.claims))
    return Done([Score(item.answer_id, options.by, value, f"{n} of {len(item.claims)} claims rejected").to_dict()])


def _doubt(item: Judged, options: Scores) -> Gone | None:
    """Why the judge's answers about this answer do not count."""
    if options.duplicate_claims_drop and len({claim.question for claim in item.claims}) < len(item.claims):
        return Gone(item.answer_id, "duplicate_claims", "two of its questions are equal (duplicate_claims_drop)")
    most = max(map(outside, item.claims), default=0.0)
    if options.max_outside is not None and most > options.max_outside:
        detail = f"{most:.3f} of the judge's probability of a claim goes to neither; at most {options.max_outside} may"
        return Gone(item.answer_id, "neither_yes_nor_no", detail)
    return None


def _minus_rejected(claims: Sequence[Claim]) -> float:
    return float(-sum(map(rejected, claims)))


def _mean_p_yes(claims: Sequence[Claim]) -> float:
    """1 for an answer without claims: none was doubted."""
    shares = [(claim.p_yes or 0.0) / total if (total := (claim.p_yes or 0.0) + (claim.p_no or 0.0)) else math.nan for claim in claims]
    return sum(shares) / len(shares) if shares else 1.0


SCORES: dict[str, Any] = {"rejected": _minus_rejected, "p_yes": _mean_p_yes}
