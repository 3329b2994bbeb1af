"""What rewards from log-probabilities share: which tokens of an answer count, and one number made of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from data_tools.records import Response, Sample


class TokenReward(ABC):
    """A `Reward` (data_tools.calls) out of log-probabilities.

    Which tokens count: see `rlaif.logprobs`. normalise: divided by their number. An empty answer and one that does not fit the model
    get nan.
    """

    def __init__(self, *, normalise: bool = True) -> None:
        self.normalise = normalise

    @abstractmethod
    def log_ratios(self, samples: Sequence[Sample], responses: Sequence[Sequence[Response]]) -> list[list[tuple[float, int]]]:
        """For each response the sum that its reward is made of, and how many tokens were counted."""

    def __call__(self, samples: Sequence[Sample], responses: Sequence[Sequence[Response]]) -> list[list[float]]:
        return [[self._reward(*told) for told in row] for row in self.log_ratios(samples, responses)]

    def _reward(self, total: float, tokens: int) -> float:
        if not tokens:
            return math.nan
        return total / tokens if self.normalise else total
