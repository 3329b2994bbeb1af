"""Preference pairs labelled by a trained model's implicit reward in place of a judge (RLAIF-V's data engine, pull request 37)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeAlias

from data_tools.records import PreferencePair, Response, Sample
from data_tools.text.words import words

NGRAM = 10  # words
# For each response the sum of its log-ratio, scaled or not, and the tokens in it: `ImplicitReward.log_ratios` is one.
LogRatios: TypeAlias = Callable[[Sequence[Sample], Sequence[Sequence[Response]]], list[list[tuple[float, int]]]]


class Ranked(NamedTuple):
    """An answer with its two rewards: the sum over its tokens, and the sum by their number."""

    text: str
    total: float
    average: float

    @property
    def length(self) -> int:
        return len(words(self.text))


@dataclass(frozen=True, slots=True)
class ImplicitPairs:
    """How pairs are made of the candidates of a row.

    top: the chosen are those among the best `top` by the sum and by the average, the rejected likewise at the other end. Answers
    alike (Jaccard index of their 10-grams of words above `alike`) count once, the best of them where the best are looked for.
    distance: chosen and rejected differ by fewer words than this. In the reference code that test never runs, because the number is
    passed as the switch that turns it off; strict_rank does what it then does: best chosen with worst-ranked rejected, one by one
    in the order of rank, lengths aside. a_row: pairs of one row. longer: at the end those pairs go whose chosen answer is the most
    words longer, until the mean difference is at most this.
    """

    top: int = 3
    alike: float = 0.9
    distance: int = 25
    strict_rank: bool = False
    a_row: int = 3
    longer: float = 0.5
    seed: int = 0

    def __call__(self, samples: Sequence[Sample], pools: Sequence[Sequence[Response]], rewards: LogRatios) -> list[PreferencePair]:
        """Pairs of all rows, in their order. A response without a finite reward takes no part."""
        rated = rewards(samples, pools)
        found = [pair for s, pool, row in zip(samples, pools, rated, strict=True) for pair in self.of_row(s, pool, row)]
        return balanced(found, self.longer)

    def of_row(self, sample: Sample, pool: Sequence[Response], rated: Sequence[tuple[float, int]]) -> list[PreferencePair]:
        """At most `a_row` pairs of one row's candidates."""
        known = {r.text: Ranked(r.text, total, total / n) for r, (total, n) in zip(pool, rated, strict=True) if n and math.isfinite(total)}
        ends = [self._ends(sorted(known.values(), key=key, reverse=True)) for key in (by_total, by_average)]
        chosen, rejected = ([one for one in ends[0][end] if one in ends[1][end]] for end in (0, 1))
        pairs = [(a, b) for a, b in self._matched(chosen, rejected, sample.id) if a.total > b.total and a.average > b.average]
        return [PreferencePair(sample, a.text, b.text, a.total - b.total) for a, b in pairs[: self.a_row]]

    def _ends(self, ranked: Sequence[Ranked]) -> tuple[list[Ranked], list[Ranked]]:
        distinct = without_alike(ranked, self.alike)
        return distinct[: self.top], distinct[-self.top :]

    def _matched(self, chosen: list[Ranked], rejected: list[Ranked], name: str) -> list[tuple[Ranked, Ranked]]:
        if self.strict_rank:
            return list(zip(chosen, rejected, strict=False))
        pairs = [(a, b) for a, b in product(chosen, rejected) if abs(a.length - b.length) < self.distance]
        random.Random(f"implicit-{self.seed}-{name}").shuffle(pairs)
        return pairs


def by_total(one: Ranked) -> float:
    return one.total


def by_average(one: Ranked) -> float:
    return one.average


def without_alike(ranked: Sequence[Ranked], limit: float) -> list[Ranked]:
    """Those that are not alike to an earlier one. An answer of fewer than ten words is alike to none."""
    kept: list[tuple[Ranked, set[tuple[str, ...]]]] = []
    for one in ranked:
        grams = ngrams(one.text)
        if all(jaccard(grams, earlier) <= limit for _, earlier in kept):
            kept.append((one, grams))
    return [one for one, _ in kept]


def ngrams(text: str) -> set[tuple[str, ...]]:
    said = words(text)
    return {tuple(said[i : i + NGRAM]) for i in range(len(said) - NGRAM + 1)}


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0


def balanced(pairs: Sequence[PreferencePair], limit: float) -> list[PreferencePair]:
    """The pairs without those whose chosen answer is the most words longer, so that the mean of chosen - rejected is at most `limit`."""
    longer = [len(words(pair.chosen)) - len(words(pair.rejected)) for pair in pairs]
    left = sorted(range(len(pairs)), key=lambda i: longer[i])  # of equal ones the later go first
    total = sum(longer)
    while left and total > limit * len(left):
        total -= longer[left.pop()]
    return [pairs[i] for i in sorted(left)]
