"""Eagle's channel concatenation: several towers on one grid, their channels side by side, one MLP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter, feature_map, square_side
from .mlp import MlpAdapter


class ChannelConcatAdapter(Adapter):
    """MLP([resize(x_1); ...; resize(x_n)]) over channels [R: NVlabs/EAGLE,
    eagle/model/multimodal_encoder/multi_backbone_channel_concatenation_encoder.py; MLP as LLaVA-1.5].

    Any number of branches. num_tokens: a square that every map is resized to (bilinear, aligned corners, float32; Eagle's is 1024); None:
    the first branch's grid. hidden_size, act: of the MLP. Reads every patch as it stands. ValueError for a number that is no square.
    """

    branches = (1, None)

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        num_tokens: int | None = None,
        hidden_size: int | None = None,
        act: str = "gelu",
    ) -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        self.grid = inputs[0].grid if num_tokens is None else (square_side(num_tokens),) * 2
        together = TokenFacts(sum(facts.width for facts in inputs), self.grid)
        self.mlp = MlpAdapter([together], out_width, hidden_size=hidden_size, bias=True, act=act)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        features = torch.cat([self._resized(tokens) for tokens in branches], -1)  # [B, N, sum of widths]
        return self.mlp(VisualTokens.full(features, self.grid))

    def _resized(self, tokens: VisualTokens) -> torch.Tensor:
        if tokens.grid == self.grid:
            return tokens.features
        resized = F.interpolate(feature_map(tokens).float(), size=self.grid, mode="bilinear", align_corners=True)
        return resized.flatten(2).transpose(1, 2).to(tokens.features.dtype)

    def tokens_out(self) -> int:
        return self.grid[0] * self.grid[1]
