"""Hinge: no loss once the chosen answer leads by 1 / beta."""

from __future__ import annotations

import torch

from .base import Beta, PairTerm


def hinge(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """max(0, 1 - beta (D_w - D_l)): SLiC's calibration loss (arXiv 2305.10425) on log-ratios, as RSO has it (arXiv 2309.06657)."""
    return torch.relu(1 - beta * (chosen - rejected))


TERM = PairTerm(hinge, by_difference=True)
