"""EXO for pairs: the reverse KL divergence from the policy's preference to a smoothed label."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm, share


def exo_pair(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta, *, label_smoothing: float = 1e-3) -> torch.Tensor:
    """q log(q / (1 - e)) + (1 - q) log((1 - q) / e), q = sigma(beta (D_w - D_l)), e = label_smoothing: arXiv 2402.00856, equation 16."""
    flipped = share("label_smoothing", label_smoothing, 1.0, zero=False)
    z = beta * (chosen - rejected)
    won = torch.sigmoid(z) * (F.logsigmoid(z) - math.log1p(-flipped))
    return won + torch.sigmoid(-z) * (F.logsigmoid(-z) - math.log(flipped))


TERM = PairTerm(exo_pair, by_difference=True)
