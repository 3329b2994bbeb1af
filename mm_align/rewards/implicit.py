"""The reward that preference training leaves in a model: r(y) = (beta/T) (log pi(y) - log pi_ref(y)) (RLAIF-V's self-feedback)."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.calls import Likelihood
from data_tools.records import Response, Sample

from ..rlaif.logprobs import token_logprobs
from .base import TokenReward


class ImplicitReward(TokenReward):
    """policy: the model after preference training; reference: the model it started from. Any model may have written the answers.

    Which tokens count: see `TokenReward`. T is their number under the policy, so two models with tokenizers of their own can be
    compared. beta: that of the training; it scales rewards and changes no order. Without `normalise` short answers win where
    training made answers less likely.
    """

    def __init__(self, policy: Likelihood, reference: Likelihood, *, beta: float = 0.1, normalise: bool = True) -> None:
        super().__init__(normalise=normalise)
        self.policy, self.reference, self.beta = policy, reference, beta

    def log_ratios(self, samples: Sequence[Sample], responses: Sequence[Sequence[Response]]) -> list[list[tuple[float, int]]]:
        policy, reference = (token_logprobs(model, samples, responses) for model in (self.policy, self.reference))
        return [
            [(self.beta * (sum(p) - sum(r)), len(p)) for p, r in zip(row, other, strict=True)]
            for row, other in zip(policy, reference, strict=True)
        ]
