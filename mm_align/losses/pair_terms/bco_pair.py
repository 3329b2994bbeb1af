"""BCO for pairs: a classifier of chosen and rejected answers, whose threshold may follow the rewards."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..gather import gather_rows
from .base import Beta, PairTerm


def bco_pair(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta, *, shift: torch.Tensor | float = 0.0) -> torch.Tensor:
    """-log sigma(r_w - shift) - log sigma(shift - r_l), r = beta D: arXiv 2404.04656.

    The paper's shift is the mean of all rewards so far (`RunningShift`); 0 is TRL's `bco_pair`.
    """
    return -F.logsigmoid(beta * chosen - shift) - F.logsigmoid(shift - beta * rejected)


class RunningShift(nn.Module):
    """The mean of all rewards seen, over chosen and rejected answers of all processes. It is kept in checkpoints and never trains."""

    mean: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def forward(self, rewards: torch.Tensor, *, learn: bool) -> torch.Tensor:
        """rewards [n] -> the shift, these rewards included where `learn` (an evaluation looks only)."""
        if learn:
            everywhere = gather_rows(rewards.detach())
            self.count += len(everywhere)
            self.mean += (everywhere - self.mean).sum() / self.count
        return self.mean.to(rewards.dtype).clone()


TERM = PairTerm(bco_pair, shifted=True)
