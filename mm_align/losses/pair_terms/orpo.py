"""ORPO: no reference; the odds of the chosen answer over those of the rejected one, beside language modelling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .base import Beta, PairTerm


def orpo(chosen: torch.Tensor, rejected: torch.Tensor, beta: Beta) -> torch.Tensor:
    """-beta log sigma(log odds_w - log odds_l), odds = p / (1 - p), log p = log pi(y|x) / |y|: arXiv 2403.07691, equations 6 and 7.

    beta is the paper's lambda. The whole loss adds the chosen answer's cross-entropy (`sft_weight` 1).
    """
    return -beta * F.logsigmoid(log_odds(chosen) - log_odds(rejected))


def log_odds(logp: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of log p <= 0; a certain token counts as one of probability 1 - 1e-7, where the odds end."""
    logp = logp.clamp(max=-torch.finfo(torch.float32).eps)
    rest = torch.where(logp > -math.log(2), torch.log(-torch.expm1(logp)), torch.log1p(-torch.exp(logp)))
    return logp - rest


TERM = PairTerm(orpo, reference_free=True, average=True)
