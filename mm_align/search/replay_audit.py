"""How steady a best-of-N is: the same pools of answers are scored again under small changes, and flips of the winner counted.

After "Same Pool, Different Answer" (DSPA, 2026), which finds that likelihoods flip their winner on 41-47 % of pools, and the
length-normalised log-ratio on fewer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_tools.calls import Likelihood, Reward
from data_tools.records import Response, Sample

from .best_of_n import highest


class Change(NamedTuple):
    """One way of scoring. temperature: of the scoring models. keep: the share of an answer's tokens that count, drawn by `seed`
    (at least one, and always the last). normalise: rewards are divided by length."""

    name: str
    temperature: float = 1.0
    keep: float = 1.0
    seed: int = 0
    normalise: bool = True


AS_IT_IS = Change("as it is")
Selector = Callable[[Change], Reward]  # a reward as it is under a change


@dataclass(frozen=True, slots=True)
class Flips:
    """What one change did to one selector: for each pool whether its winner is another answer."""

    selector: str
    change: str
    flipped: tuple[bool, ...] = field(repr=False)

    @property
    def rate(self) -> float:
        return sum(self.flipped) / len(self.flipped) if self.flipped else 0.0


def changes(temperatures: Sequence[float] = (0.9, 1.1), keep: float = 0.9, seeds: int = 3, normalisation: bool = True) -> list[Change]:
    """The changes of an audit: other temperatures, `seeds` subsets of the tokens, and rewards that are not divided by length."""
    found = [Change(f"temperature {temperature:g}", temperature=temperature) for temperature in temperatures]
    found += [Change(f"{keep:.0%} of the tokens, draw {seed}", keep=keep, seed=seed) for seed in range(seeds)]
    return found + ([Change("not divided by length", normalise=False)] if normalisation else [])


def replay_audit(
    samples: Sequence[Sample], pools: Sequence[Sequence[Response]], selectors: dict[str, Selector], under: Sequence[Change]
) -> list[Flips]:
    """Flips of each selector under each change, over the pools with at least two different answers (no other can flip).

    A winner flips when its text becomes another; a pool without any winner counts as one whose winner is nothing.
    """
    open_pools = [i for i, pool in enumerate(pools) if len({response.text for response in pool}) > 1]
    asked, kept = [samples[i] for i in open_pools], [pools[i] for i in open_pools]
    found = []
    for name, selector in selectors.items():
        before = _winners(selector(AS_IT_IS), asked, kept)
        for change in under:
            after = _winners(selector(change), asked, kept)
            found.append(Flips(name, change.name, tuple(a != b for a, b in zip(before, after, strict=True))))
    return found


def _winners(reward: Reward, samples: Sequence[Sample], pools: Sequence[Sequence[Response]]) -> list[str | None]:
    places = [highest(rewards) for rewards in reward(samples, pools)]
    return [None if place is None else pool[place].text for place, pool in zip(places, pools, strict=True)]


# -- changed likelihoods -----------------------------------------------------------------------------------------------


class Remembered:
    """A `Likelihood` that scores each (sample, text, temperature) once; for pools that fit into memory."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self.known: dict[tuple[str, str, bool, float], tuple[float, ...]] = {}

    def __call__(
        self, samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]:
        keys = [[(s.id, text, ended, temperature) for text in texts] for s, texts in zip(samples, continuations, strict=True)]
        missing = [list(dict.fromkeys(key[1] for key in row if key not in self.known)) for row in keys]
        asked = [i for i, texts in enumerate(missing) if texts]
        if asked:
            told = self.likelihood([samples[i] for i in asked], [missing[i] for i in asked], ended=ended, temperature=temperature)
            for i, rows in zip(asked, told, strict=True):
                self.known |= {(samples[i].id, text, ended, temperature): row for text, row in zip(missing[i], rows, strict=True)}
        return [[self.known[key] for key in row] for row in keys]


def changed(likelihood: Likelihood, change: Change) -> Likelihood:
    """The likelihood as it is under a change of temperature and of the tokens that count."""

    def score(
        samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]:
        told = likelihood(samples, continuations, ended=ended, temperature=temperature * change.temperature)
        if change.keep >= 1:
            return told
        return [
            [_thinned(row, change, f"{sample.id}\0{text}") for row, text in zip(rows, texts, strict=True)]
            for sample, texts, rows in zip(samples, continuations, told, strict=True)
        ]

    return score


def _thinned(tokens: tuple[float, ...], change: Change, name: str) -> tuple[float, ...]:
    """The kept tokens; the same places for every model that cuts the answer into as many tokens."""
    digest = hashlib.sha256(f"{change.seed}\0{name}".encode("utf-8", "surrogatepass")).digest()
    draws = np.random.default_rng(int.from_bytes(digest[:8], "big")).random(len(tokens))
    return tuple(value for i, value in enumerate(tokens) if draws[i] < change.keep or i == len(tokens) - 1)
