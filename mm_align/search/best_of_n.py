"""Best of N: several answers are sampled, and the one that a reward likes best is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from data_tools.calls import Generate, Reward, Sampling
from data_tools.records import Response, Sample


class Choice(NamedTuple):
    """Candidates of one sample with their rewards, in the order in which they were drawn."""

    sample_id: str
    candidates: tuple[Response, ...]
    rewards: tuple[float, ...]

    @property
    def best(self) -> Response | None:
        """The candidate of the highest reward, the first of equals; None where no reward is a number."""
        return self.best_of(len(self.candidates))

    def best_of(self, n: int) -> Response | None:
        """The same among the first `n`: what a smaller N would have given."""
        place = highest(self.rewards[:n])
        return None if place is None else self.candidates[place]


def best_of_n(samples: Sequence[Sample], generate: Generate, reward: Reward, sampling: Sampling) -> list[Choice]:
    """`sampling.n` answers to each sample by `generate`, rewarded by `reward`; the two may be different models.

    ValueError for greedy decoding of more than one answer, and for a model that gives another number of answers.
    """
    if sampling.n > 1 and sampling.temperature == 0:
        raise ValueError("best of several needs a temperature above 0: at 0 all answers are the same")
    pools = pooled(samples, generate(samples, sampling), sampling.n)
    rewards = reward(samples, pools)
    return [Choice(s.id, tuple(pool), tuple(row)) for s, pool, row in zip(samples, pools, rewards, strict=True)]


def pooled(samples: Sequence[Sample], responses: Sequence[Response], n: int) -> list[list[Response]]:
    """The responses of each sample. ValueError unless they are `n` a sample in the order of the samples."""
    pools = [list(responses[i : i + n]) for i in range(0, len(responses), n)]
    if len(responses) != n * len(samples) or any(r.sample_id != s.id for s, pool in zip(samples, pools, strict=True) for r in pool):
        raise ValueError(f"{len(responses)} answers to {len(samples)} samples, expected {n} to each in their order")
    return pools


def highest(rewards: Sequence[float]) -> int | None:
    """The place of the highest number, the first of equals; nan is none, minus infinity is the lowest."""
    places = [i for i, reward in enumerate(rewards) if not math.isnan(reward)]
    return max(places, key=lambda i: (rewards[i], -i), default=None)
