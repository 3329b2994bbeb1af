"""KTO on pairs: each answer by itself against a divergence that the other answers estimate."""

from __future__ import annotations

import torch

from ..kto import kto
from .base import Beta, PairTerm


def kto_pair(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """[1 - sigma(beta (D_w - z_l)) + 1 - sigma(beta (z_w - D_l))] / 2, z = max(0, mean of D over the batch): arXiv 2402.01306 for pairs.

    z of the other side's answers stands for KL(pi || pi_ref), as in TRL before 0.9 and LLaMA-Factory; it has no gradient. It is of the
    rows at hand, so the micro-batch matters.
    """
    yes = torch.ones_like(chosen, dtype=torch.bool)
    won = kto(chosen, yes, rejected.detach().mean(), beta)
    return (won + kto(rejected, ~yes, chosen.detach().mean(), beta)) / 2


TERM = PairTerm(kto_pair)
