"""The linear adapter of LLaVA-1 and PaliGemma: one matrix for every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter


class LinearAdapter(Adapter):
    """W x + b. [B, N, in] -> [B, N, out] [R: haotian-liu/LLaVA, llava/model/multimodal_projector/builder.py, "linear";
    google-research/big_vision, big_vision/models/proj/paligemma/paligemma.py, where it is the head of the ViT].
    """

    def __init__(self, inputs: Sequence[TokenFacts], out_width: int, *, bias: bool = True) -> None:
        super().__init__(inputs, out_width)
        self.linear = nn.Linear(inputs[0].width, out_width, bias=bias)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        return replace(tokens, features=self.linear(tokens.features))

    def tokens_out(self) -> int:
        return self.inputs[0].total
