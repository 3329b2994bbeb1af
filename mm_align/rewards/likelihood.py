"""How likely a model finds an answer: r(y) = (1/T) log pi(y), minus the logarithm of its perplexity."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.calls import Likelihood
from data_tools.records import Response, Sample

from ..rlaif.logprobs import token_logprobs
from .base import TokenReward


class LikelihoodReward(TokenReward):
    """The reward that self-feedback is compared with; see `TokenReward`. Without `normalise` long answers lose."""

    def __init__(self, model: Likelihood, *, normalise: bool = True) -> None:
        super().__init__(normalise=normalise)
        self.model = model

    def log_ratios(self, samples: Sequence[Sample], responses: Sequence[Sequence[Response]]) -> list[list[tuple[float, int]]]:
        return [[(sum(tokens), len(tokens)) for tokens in row] for row in token_logprobs(self.model, samples, responses)]
