"""APO-zero: chosen answers up, rejected ones down, for answers that are better than what the model gives."""

from __future__ import annotations

import torch

from .base import Beta, PairTerm


def apo_zero(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """1 - sigma(beta D_w) + sigma(beta D_l): arXiv 2408.06266, equation 7. Bounded, so a hopeless pair has no gradient."""
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


TERM = PairTerm(apo_zero)
