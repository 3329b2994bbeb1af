"""NCA for pairs: each answer's own reward counts, so that the chosen one's cannot fall with the other's."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm


def nca_pair(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """-log sigma(r_w) - log sigma(-r_w) / 2 - log sigma(-r_l) / 2, r = beta D: arXiv 2402.05369, for two answers."""
    won, lost = beta * chosen, beta * rejected
    return -F.logsigmoid(won) - (F.logsigmoid(-won) + F.logsigmoid(-lost)) / 2


TERM = PairTerm(nca_pair)
