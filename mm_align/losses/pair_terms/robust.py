"""Robust DPO: an unbiased estimate of DPO's loss where a share of the labels is flipped."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm, share


def robust(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta, *, label_smoothing: float = 0.1) -> torch.Tensor:
    """[-(1 - e) log sigma(z) + e log sigma(-z)] / (1 - 2 e), z = beta (D_w - D_l), e = label_smoothing: arXiv 2403.00409."""
    flipped = share("label_smoothing", label_smoothing, 0.5)
    z = beta * (chosen - rejected)
    return (flipped * F.logsigmoid(-z) - (1 - flipped) * F.logsigmoid(z)) / (1 - 2 * flipped)


TERM = PairTerm(robust, by_difference=True)
