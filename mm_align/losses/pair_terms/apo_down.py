"""APO-down: both answers down, the rejected one further, for answers that are worse than what the model gives."""

from __future__ import annotations

import torch

from .base import Beta, PairTerm


def apo_down(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """sigma(beta D_w) + 1 - sigma(beta (D_w - D_l)): arXiv 2408.06266, equation 8."""
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


TERM = PairTerm(apo_down)
