"""Adaptive average pooling to a smaller grid, then the two-layer MLP: DeCo, LLaVA-Unified, Open-Qwen2VL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter, feature_map, pooled_side
from .mlp import MlpAdapter


class PoolMlpAdapter(Adapter):
    """W2 GELU(W1 pool(x) + b1) + b2, with the patches averaged into a square of `num_tokens` bins
    [R: AvgPoolProjector of yaolinli/DeCo; the same in Victorwz/LLaVA-Unified and Open-Qwen2VL, 27 x 27 -> 12 x 12].

    A bin is real where one of its patches is, and averages what it covers as it stands. ValueError for a number that is no square, or
    larger than the grid.
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        num_tokens: int = 144,
        hidden_size: int | None = None,
        depth: int = 2,
        act: str = "gelu",
    ) -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        self.side = pooled_side(num_tokens, inputs[0].grid)
        self.mlp = MlpAdapter(inputs, out_width, hidden_size=hidden_size, depth=depth, bias=True, act=act)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        grid = (self.side, self.side)
        features = F.adaptive_avg_pool2d(feature_map(tokens), grid).flatten(2).transpose(1, 2)  # [B, side^2, d]
        return self.mlp(VisualTokens(features, self._real(tokens), grid, tokens.level))

    def _real(self, tokens: VisualTokens) -> torch.Tensor:
        share = feature_map(replace(tokens, features=tokens.mask[..., None].float()))
        return F.adaptive_max_pool2d(share, (self.side, self.side)).flatten(1) > 0

    def tokens_out(self) -> int:
        return self.side**2
