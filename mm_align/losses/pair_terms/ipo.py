"""IPO: the difference of two log-ratios is drawn to 1 / (2 beta) by a square."""

from __future__ import annotations

import torch

from .base import Beta, PairTerm


def ipo(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """(D_w - D_l - 1 / (2 beta))^2: arXiv 2310.12036, equation 17, whose tau is beta.

    D is a mean over tokens, as TRL has it from the authors; the paper prints none.
    """
    return (chosen - rejected - 1 / (2 * beta)).square()


TERM = PairTerm(ipo, average=True, by_difference=True)
