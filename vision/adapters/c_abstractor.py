"""Honeybee's C-Abstractor: convolutions, pooling to a square of any size, convolutions, MLP; it keeps what is near together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter, feature_map, pooled_side
from .start import LearnedVectors


class CAbstractorAdapter(Adapter):
    """MLP(RegStage(pool(RegStage(x + pos)))) [R: khanrc/honeybee, honeybee/projectors/projectors.py, CAbstractor].

    RegStage: `depth` RegNet bottleneck blocks of timm (depthwise 3 x 3, squeeze-and-excitation, SiLU, LayerNorm over channels); pool:
    adaptive average to a square of `num_tokens`; MLP: `mlp_depth` Linear with SiLU between. hidden_size: channels of the blocks. prenorm:
    LayerNorm first. end_tokens: learned tokens behind the square, which then is no grid any more. Reads every patch as it stands.
    ValueError for a number of tokens that is no square, or larger than the grid.
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        num_tokens: int = 144,
        hidden_size: int = 1024,
        depth: int = 3,
        mlp_depth: int = 2,
        prenorm: bool = False,
        end_tokens: int = 0,
    ) -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        self.side = pooled_side(num_tokens, inputs[0].grid)
        width = inputs[0].width
        self.prenorm = nn.LayerNorm(width, eps=1e-6) if prenorm else nn.Identity()
        self.places = LearnedVectors(inputs[0].total, width)
        self.before = _reg_stage(depth, width, hidden_size)
        self.pool = nn.AdaptiveAvgPool2d(self.side)
        self.after = _reg_stage(depth, hidden_size, hidden_size)
        layers: list[nn.Module] = [nn.Linear(hidden_size, out_width)]
        for _ in range(1, mlp_depth):
            layers += [nn.SiLU(), nn.Linear(out_width, out_width)]
        self.readout = nn.Sequential(*layers)
        self.end_tokens = LearnedVectors(end_tokens, out_width) if end_tokens else None

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        self.check_grids(branches)
        placed = VisualTokens.full(self.prenorm(tokens.features) + self.places.weight, tokens.grid)
        seen = self.after(self.pool(self.before(feature_map(placed))))  # [B, hidden, side, side]
        features = self.readout(seen.flatten(2).transpose(1, 2))
        if self.end_tokens is None:
            return VisualTokens.full(features, (self.side, self.side), level=tokens.level)
        return VisualTokens.full(torch.cat([features, self.end_tokens.expand(len(features))], 1), None, level=tokens.level)

    def tokens_out(self) -> int:
        return self.side**2 + (0 if self.end_tokens is None else len(self.end_tokens.weight))


def _reg_stage(depth: int, width: int, out_width: int) -> Any:
    from timm.layers import LayerNorm2d
    from timm.models.regnet import RegStage

    return RegStage(depth, width, out_width, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d)
