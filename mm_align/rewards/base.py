"""What rewards from log-probabilities share: which tokens of an answer count, and one number made of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from data_tools.calls import Likelihood
from data_tools.records import Response, Sample


class TokenReward(ABC):
    """A `Reward` (data_tools.calls) out of log-probabilities.

    What counts are the tokens of the answer's text and, behind them, the one that ends the turn: the tokens that training counts. An
    answer that was cut at the token limit has no end, and its end is not counted. normalise: divided by the number of these tokens.
    An empty answer and one that does not fit the model get nan.
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


def token_logprobs(
    likelihood: Likelihood, samples: Sequence[Sample], responses: Sequence[Sequence[Response]], temperature: float = 1.0
) -> list[list[tuple[float, ...]]]:
    """Log-probabilities of the tokens that count, see `TokenReward`; () for an answer without text. Equal answers are scored once."""
    texts = [list(dict.fromkeys(r.text for r in row if r.text.strip())) for row in responses]
    asked = [i for i, row in enumerate(texts) if row]
    scored = likelihood([samples[i] for i in asked], [texts[i] for i in asked], ended=True, temperature=temperature) if asked else []
    known = {i: dict(zip(texts[i], rows, strict=True)) for i, rows in zip(asked, scored, strict=True)}
    return [[_counted(known.get(i, {}).get(r.text, ()), r) for r in row] for i, row in enumerate(responses)]


def _counted(tokens: tuple[float, ...], response: Response) -> tuple[float, ...]:
    return tokens[:-1] if response.truncated else tokens
