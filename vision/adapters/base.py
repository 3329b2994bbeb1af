"""What every adapter offers: visual tokens of the encoder's width -> visual tokens of the language model's width."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from ..tokens import VisualTokens


class Adapter(nn.Module, ABC):
    """Built as `Adapter(in_width, out_width, **options)`; maps VisualTokens [B, N, in] to VisualTokens [B, M, out]."""

    @abstractmethod
    def forward(self, tokens: VisualTokens) -> VisualTokens: ...

    @abstractmethod
    def tokens_out(self, grid: tuple[int, int], prefix: int) -> int:
        """M for a picture of `grid` patches behind `prefix` tokens: known before anything runs."""
