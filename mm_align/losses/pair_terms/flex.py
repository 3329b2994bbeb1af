"""Flex-DPO: a smaller coefficient for the rejected answer, whose gradient is what drags the chosen one down."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm


def flex(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta, *, rejected_scale: float = 0.8) -> torch.Tensor:
    """-log sigma(b+ D_w - b- D_l) with b+ = beta, b- = rejected_scale * beta: arXiv 2406.07327. A scale of 1 is DPO bit for bit.

    0.8 (b- = 0.08 of b+ = 0.1) is about the best of the paper's sweep; much less slides back to imitation.
    """
    return -F.logsigmoid(beta * (chosen - rejected_scale * rejected))


TERM = PairTerm(flex)
