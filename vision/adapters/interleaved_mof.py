"""Interleaved mixture of features (MMVP): two towers, each with its own MLP, their tokens in turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter
from .mlp import MlpAdapter


class InterleavedMofAdapter(Adapter):
    """z_{2i} = MLP_1(x_i), z_{2i+1} = MLP_2(y_i): 2 N tokens, the first branch at even places [R: tsb0601/MMVP,
    LLaVA/llava/model/llava_arch.py]. hidden_size, act: of both MLPs. ValueError for branches of different numbers of tokens.
    """

    branches = (2, 2)

    def __init__(self, inputs: Sequence[TokenFacts], out_width: int, *, hidden_size: int | None = None, act: str = "gelu") -> None:
        super().__init__(inputs, out_width)
        if inputs[0].total != inputs[1].total:
            raise ValueError(
                f"interleaving takes one token of each branch in turn, but they give {inputs[0].total} and {inputs[1].total} tokens; "
                f"choose the branches' image_size so that their grids are equal"
            )
        self.first = MlpAdapter(inputs[:1], out_width, hidden_size=hidden_size, bias=True, act=act)
        self.second = MlpAdapter(inputs[1:], out_width, hidden_size=hidden_size, bias=True, act=act)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        even, odd = self.first(branches[0]), self.second(branches[1])
        features = torch.stack([even.features, odd.features], 2).flatten(1, 2)  # [B, 2 N, D]
        return VisualTokens(features, torch.stack([even.mask, odd.mask], 2).flatten(1, 2), None, even.level)

    def tokens_out(self) -> int:
        return 2 * self.inputs[0].total
