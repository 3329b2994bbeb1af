"""Mini-Gemini's patch info mining: each low-resolution token reads its window of high-resolution tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter
from .mlp import MlpAdapter
from .windows import WindowAttention


class WindowAttentionAdapter(Adapter):
    """z_i = MLP(v_i + e_i), e_i the attention of v_i into its own window [R: dvlab-research/MGM, mgm/model/mgm_arch.py].

    Branches: low resolution, then high resolution, whose grid is a whole multiple of it; widths may differ. As many tokens as the low
    branch has. Equation of e: `windows.WindowAttention`. hidden_size, act: of the two-layer MLP (biases on, as released).
    """

    branches = (2, 2)

    def __init__(self, inputs: Sequence[TokenFacts], out_width: int, *, hidden_size: int | None = None, act: str = "gelu") -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        self.mlp = MlpAdapter(inputs[:1], out_width, hidden_size=hidden_size, bias=(True, True), act=act)
        self.attention = WindowAttention(*inputs)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        low, high = branches
        return self.mlp(replace(low, features=low.features + self.attention(low, high)))

    def tokens_out(self) -> int:
        return self.inputs[0].total
