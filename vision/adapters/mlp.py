"""The two-layer MLP adapter of LLaVA-1.5 and AITQE: every token by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from transformers.activations import ACT2FN

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter


class MlpAdapter(Adapter):
    """Linear, activation, Linear. [B, N, in] -> [B, N, out].

    hidden_size: width between (default: out). bias: of the first and the second Linear; AITQE's is (True, False) with
    exact GELU [R: modeling_mm.py], LLaVA-1.5's (True, True).
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        hidden_size: int | None = None,
        bias: Sequence[bool] = (True, False),
        act: str = "gelu",
    ) -> None:
        super().__init__(inputs, out_width)
        if len(bias) != 2:
            raise ValueError(f"the MLP adapter has two Linear layers: bias needs two flags, got {list(bias)}")
        if act not in ACT2FN:
            raise ValueError(f"unknown activation '{act}'; known ones: {', '.join(sorted(ACT2FN))}")
        hidden_size = hidden_size or out_width
        self.linear_1 = nn.Linear(inputs[0].width, hidden_size, bias=bias[0])
        self.act = ACT2FN[act]
        self.linear_2 = nn.Linear(hidden_size, out_width, bias=bias[1])

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        return replace(tokens, features=self.linear_2(self.act(self.linear_1(tokens.features))))

    def tokens_out(self) -> int:
        return self.inputs[0].total
