"""SimPO: no reference; the mean log-probability of the chosen answer leads by a target margin."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm


def simpo(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta, *, gamma: float = 1.0) -> torch.Tensor:
    """-log sigma(beta (p_w - p_l) - gamma), p = log pi(y|x) / |y|: arXiv 2405.14734, equation 6."""
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


TERM = PairTerm(simpo, reference_free=True, average=True, by_difference=True, beta=2.0)
