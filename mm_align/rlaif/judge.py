"""Conquer: a judge's probabilities of yes and of no to every question, all questions of one picture in one call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from data_tools.calls import Decide, Decision
from data_tools.records import Claim, Sample

from ..config import JobConfig
from .files import answered, with_claims
from .pictures import prints, with_pictures
from .stage import Done, Gone, Stage, Unit


class Judging(JobConfig):
    """What is told about the judge's answers. A claim is rejected where p(no) >= p(yes) [RLAIF-V 1.4]."""

    near: float = Field(
        0.01, ge=0, le=1, description="claims whose p(yes) and p(no) differ by at most this are counted as near the threshold"
    )


def outside(claim: Claim) -> float:
    """How much of the judge's probability goes to neither yes nor no."""
    return max(0.0, 1.0 - (claim.p_yes or 0.0) - (claim.p_no or 0.0))


class Asked(NamedTuple):
    """All that is asked about one sample's pictures: the claims of each answer, by the answer's id."""

    sample: Sample
    answers: Mapping[str, Sequence[Claim]]


def rejected(claim: Claim) -> bool:
    """Whether the judge rejects the claim; a tie is a rejection."""
    assert claim.p_yes is not None
    assert claim.p_no is not None
    return claim.p_no >= claim.p_yes


def judge_stage(folder: Path, decide: Decide, model: Mapping[str, Any], block: int = 8) -> Stage:
    """questions.jsonl -> judged.jsonl (the same claims with p_yes and p_no).

    A unit is all that is asked about one picture: its questions share one prefill, and scores that are compared come of one call.
    """

    def units() -> Iterator[Unit]:
        for asked in _by_picture(folder):
            questions = [[claim.question for claim in claims] for claims in asked.answers.values()]
            yield Unit(tuple(asked.answers), {"pictures": prints(asked.sample), "questions": questions}, asked)

    def work(items: Sequence[Asked]) -> Sequence[Done]:
        def ask(asked: Sequence[Asked], ready: Sequence[Sample]) -> Sequence[Done]:
            return _judged(asked, ready, decide)

        return with_pictures(items, lambda asked: asked.sample, lambda asked: list(asked.answers), ask)

    return Stage("judged", {"model": dict(model)}, units, work, block)


def _by_picture(folder: Path) -> Iterator[Asked]:
    """Neighbouring prompts about the same pictures are one; answers without a question are left out."""
    prompts = ((sample, answers) for sample, answers in answered(folder))
    of_answer: dict[str, Sample] = {}

    def flat() -> Iterator[Any]:
        for sample, answers in prompts:
            for answer in answers:
                of_answer[answer.id] = sample
                yield answer

    asked = ((of_answer.pop(answer.id), answer.id, claims) for answer, claims in with_claims(folder, "questions", flat()))
    for _, group in groupby(asked, lambda row: [image.path for image in row[0].images]):
        rows = list(group)
        answers = {answer_id: claims for _, answer_id, claims in rows if claims}
        if answers:
            yield Asked(rows[0][0], answers)


def _judged(asked: Sequence[Asked], ready: Sequence[Sample], decide: Decide) -> list[Done]:
    questions = [[claim.question for claims in one.answers.values() for claim in claims] for one in asked]
    return [_done(one, decisions) for one, decisions in zip(asked, decide(ready, questions), strict=True)]


def _done(asked: Asked, decisions: Sequence[Decision]) -> Done:
    rows: list[dict[str, Any]] = []
    gone: list[Gone] = []
    left = iter(decisions)
    for answer_id, claims in asked.answers.items():
        told = [(claim, next(left)) for claim in claims]
        if all(math.isfinite(decision.p_yes) and math.isfinite(decision.p_no) for _, decision in told):
            rows += [replace(claim, p_yes=decision.p_yes, p_no=decision.p_no).to_dict() for claim, decision in told]
        else:
            gone.append(Gone(answer_id, "no_probability", "the judge gave no probability to a claim: its question is too long for it"))
    return Done(rows, gone)
