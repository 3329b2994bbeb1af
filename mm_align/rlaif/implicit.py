"""Answers labelled by a trained model's implicit reward in place of a judge (RLAIF-V's data engine, pull request 37).

Two stages score every answer under the model after preference training (policy.jsonl) and under the one before (reference.jsonl); what
the second is subtracted from the first gives scores, and the pairs are those on which the sum over tokens and the mean agree.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from data_tools.calls import Likelihood
from data_tools.records import Response, Sample, Score
from data_tools.text.words import words

from ..config import JobConfig
from .files import answered, read_rows
from .logprobs import token_logprobs
from .pairs import Pair
from .pictures import prints, with_pictures
from .stage import Done, Gone, Stage, Unit

NGRAM = 10  # words
FILES = ("policy", "reference")


class Implicit(JobConfig):
    """How the implicit reward labels. The reward is beta (log pi - log pi_ref), as a sum over tokens and as a mean.

    In the reference code the test of lengths never runs, because its number is passed as the switch that turns it off; `strict_rank`
    does what the code then does.
    """

    beta: float = Field(0.1, gt=0, description="scale of the rewards; that of the model's training")
    top: int = Field(3, ge=1, description="chosen are those among the best of so many by the sum and by the mean, rejected likewise below")
    alike: float = Field(
        0.9, ge=0, le=1, description="answers with a higher share of common 10-grams of words count once, the best of them"
    )
    distance: int = Field(25, ge=1, description="chosen and rejected differ by fewer words than this")
    strict_rank: bool = Field(False, description="as the reference code: pairs one by one in the order of rank, lengths aside")
    a_row: int = Field(3, ge=1, description="pairs of one prompt, at most")
    longer: float = Field(0.5, description="words by which chosen answers may be longer on average; pairs go until it holds")
    seed: int = Field(0, description="of the drawing")


class Ranked(NamedTuple):
    """An answer with its two rewards."""

    response: Response
    total: float
    mean: float

    @property
    def length(self) -> int:
        return len(words(self.response.text))


# -- scoring -----------------------------------------------------------------------------------------------------------


def logprob_stage(folder: Path, name: str, likelihood: Likelihood, model: Mapping[str, Any], block: int = 16) -> Stage:
    """candidates.jsonl -> policy.jsonl or reference.jsonl: the answers with `logprob` and `tokens` under another model."""

    def units() -> Iterator[Unit]:
        for sample, pool in answered(folder):
            texts = [[response.text, response.truncated] for response in pool]
            asked = [message.to_dict() for message in sample.messages]
            depends = {"messages": asked, "pictures": prints(sample), "answers": texts}
            yield Unit(tuple(response.id for response in pool), depends, (sample, pool))

    def work(items: Sequence[tuple[Sample, list[Response]]]) -> Sequence[Done]:
        def score(rows: Sequence[tuple[Sample, list[Response]]], ready: Sequence[Sample]) -> list[Done]:
            found = token_logprobs(likelihood, ready, [pool for _, pool in rows])
            return [_done(pool, tokens, str(model.get("model", ""))) for (_, pool), tokens in zip(rows, found, strict=True)]

        return with_pictures(items, lambda row: row[0], lambda row: [response.id for response in row[1]], score)

    return Stage(name, {"model": dict(model)}, units, work, block)


def _done(pool: Sequence[Response], scored: Sequence[tuple[float, ...]], model: str) -> Done:
    rows, gone = [], []
    for response, tokens in zip(pool, scored, strict=True):
        if not tokens:
            gone.append(Gone(response.id, "empty_answer", "an answer without text has no reward"))
        elif not math.isfinite(sum(tokens)):
            gone.append(Gone(response.id, "not_a_number", "the model gives no probability: prompt and answer are too long for it"))
        else:
            rows.append(replace(response, model=model, logprob=sum(tokens), tokens=len(tokens)).to_dict())
    return Done(rows, gone)


def rewards(folder: Path, beta: float) -> dict[str, tuple[float, float]]:
    """Answer -> its reward as a sum and as a mean over the policy's tokens, where both models have scored it."""
    policy, reference = ({r.id: r for r in read_rows(folder, name, Response)} for name in FILES)
    sums = {name: beta * (told.logprob - reference[name].logprob) for name, told in policy.items() if name in reference}
    return {name: (total, total / policy[name].tokens) for name, total in sums.items()}


def scores_stage(folder: Path, options: Implicit) -> Stage:
    """policy.jsonl and reference.jsonl -> scores.jsonl: the mean over tokens, one score an answer."""
    known = rewards(folder, options.beta)

    def units() -> Iterator[Unit]:
        for _, pool in answered(folder):
            for response in pool:
                yield Unit((response.id,), {"rewards": known.get(response.id)}, response.id)

    def work(items: Sequence[str]) -> Sequence[Done]:
        return [_scored(name, known.get(name)) for name in items]

    return Stage("scores", {"implicit": options.beta}, units, work, 1024)


def _scored(name: str, reward: tuple[float, float] | None) -> Done:
    if reward is None:
        return Done(gone=[Gone(name, "not_scored", "one of the two models gave no probability")])
    return Done([Score(name, "implicit", reward[1], f"{reward[0]:+.6g} over all tokens").to_dict()])


# -- pairs -------------------------------------------------------------------------------------------------------------


def make_pairs(folder: Path, options: Implicit) -> tuple[list[Pair], list[Pair]]:
    """(pairs, pairs that went so that chosen answers are no longer than rejected ones), in the order of the prompts."""
    known = rewards(folder, options.beta)
    found = [
        pair
        for sample, pool in answered(folder)
        for pair in pairs_of(sample, [Ranked(r, *known[r.id]) for r in pool if r.id in known], options)
    ]
    kept = balanced(found, options.longer)
    held = set(map(id, kept))
    return kept, [pair for pair in found if id(pair) not in held]


def pairs_of(sample: Sample, rated: Sequence[Ranked], options: Implicit) -> list[Pair]:
    """At most `a_row` pairs of one prompt's answers. Equal answers count once."""
    known = list({one.response.text.strip(): one for one in rated}.values())
    ends = [_ends(sorted(known, key=by, reverse=True), options) for by in (_total, _mean)]
    chosen, rejected = ([one for one in ends[0][end] if one in ends[1][end]] for end in (0, 1))
    pairs = [(a, b) for a, b in _matched(chosen, rejected, sample.id, options) if a.total > b.total and a.mean > b.mean]
    return [Pair(sample, a.response, b.response, a.total - b.total) for a, b in pairs[: options.a_row]]


def _total(one: Ranked) -> float:
    return one.total


def _mean(one: Ranked) -> float:
    return one.mean


def _ends(ranked: Sequence[Ranked], options: Implicit) -> tuple[list[Ranked], list[Ranked]]:
    distinct = without_alike(ranked, options.alike)
    return distinct[: options.top], distinct[-options.top :]


def _matched(chosen: list[Ranked], rejected: list[Ranked], name: str, options: Implicit) -> list[tuple[Ranked, Ranked]]:
    if options.strict_rank:
        return list(zip(chosen, rejected, strict=False))
    pairs = [(a, b) for a, b in product(chosen, rejected) if abs(a.length - b.length) < options.distance]
    random.Random(f"implicit-{options.seed}-{name}").shuffle(pairs)
    return pairs


def without_alike(ranked: Sequence[Ranked], limit: float) -> list[Ranked]:
    """Those that are not alike to an earlier one. An answer of fewer than ten words is alike to none."""
    kept: list[tuple[Ranked, set[tuple[str, ...]]]] = []
    for one in ranked:
        grams = ngrams(one.response.text)
        if all(jaccard(grams, earlier) <= limit for _, earlier in kept):
            kept.append((one, grams))
    return [one for one, _ in kept]


def ngrams(text: str) -> set[tuple[str, ...]]:
    said = words(text)
    return {tuple(said[i : i + NGRAM]) for i in range(len(said) - NGRAM + 1)}


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0


def balanced(pairs: Sequence[Pair], limit: float) -> list[Pair]:
    """The pairs without those whose chosen answer is the most words longer, so that the mean of chosen - rejected is at most `limit`."""
    longer = [len(words(pair.chosen.text)) - len(words(pair.rejected.text)) for pair in pairs]
    left = sorted(range(len(pairs)), key=lambda i: longer[i])  # of equal ones the later go first
    total = sum(longer)
    while left and total > limit * len(left):
        total -= longer[left.pop()]
    return [pairs[i] for i in sorted(left)]
