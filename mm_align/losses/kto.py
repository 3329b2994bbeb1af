"""KTO: answers that are good or bad by themselves, no pairs needed."""

from __future__ import annotations

import torch


def kto(
    scores: torch.Tensor,
    desirable: torch.Tensor,
    divergence: torch.Tensor,
    beta: torch.Tensor | float = 0.1,
    *,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """[N] losses w (1 - sigma(beta (D - z))) of desirable answers and w (1 - sigma(beta (z - D))) of others: arXiv 2402.01306.

    scores: [N] D(y) = log pi(y|x) - log pi_ref(y|x). desirable: [N] bool. divergence: an estimate of KL(pi || pi_ref), the mean of D
    over answers that do not belong to their prompts; z is it without gradient, and 0 where it is negative.
    """
    lead = scores - divergence.detach().clamp(min=0)
    signed = torch.where(desirable, lead, -lead)
    weights = torch.where(desirable, desirable_weight, undesirable_weight)
    return weights * torch.sigmoid(-beta * signed)
