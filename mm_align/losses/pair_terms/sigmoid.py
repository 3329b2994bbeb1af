"""DPO: the logistic loss of the difference of two log-ratios."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm


def sigmoid(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """-log sigma(beta (D_w - D_l)): arXiv 2305.18290, equation 7."""
    return -F.logsigmoid(beta * (chosen - rejected))


TERM = PairTerm(sigmoid, by_difference=True)
