"""The MLP adapter of LLaVA-1.5 (two layers, or any number) and AITQE: every token by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from transformers.activations import ACT2FN

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter


class MlpAdapter(Adapter):
    """Linear, then (activation, Linear) until there are `depth` of them. [B, N, in] -> [B, N, out].

    hidden_size: width between (default: out). depth N: LLaVA's `mlpNx_gelu` [R: haotian-liu/LLaVA,
    llava/model/multimodal_projector/builder.py]. bias: one flag for all, or one a Linear; LLaVA's is True, AITQE's, the default, all
    but the last, with exact GELU [R: modeling_mm.py]. ValueError for another number of flags or an unknown activation.
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        hidden_size: int | None = None,
        depth: int = 2,
        bias: bool | Sequence[bool] | None = None,
        act: str = "gelu",
    ) -> None:
        super().__init__(inputs, out_width)
        if depth < 1:
            raise ValueError(f"the MLP adapter needs at least one layer, got depth {depth}")
        if act not in ACT2FN:
            raise ValueError(f"unknown activation '{act}'; known ones: {', '.join(sorted(ACT2FN))}")
        flags = [*[True] * (depth - 1), False] if bias is None else [bias] * depth if isinstance(bias, bool) else list(bias)
        if len(flags) != depth:
            raise ValueError(f"the MLP adapter has {depth} Linear layers: bias needs as many flags, got {flags}")
        widths = [inputs[0].width, *[hidden_size or out_width] * (depth - 1), out_width]
        self.depth = depth
        self.act = ACT2FN[act]
        for number, flag in enumerate(flags, 1):
            self.add_module(f"linear_{number}", nn.Linear(widths[number - 1], widths[number], bias=flag))

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        features = self.linear_1(tokens.features)
        for number in range(2, self.depth + 1):
            features = self.get_submodule(f"linear_{number}")(self.act(features))
        return replace(tokens, features=features)

    def tokens_out(self) -> int:
        return self.inputs[0].total
