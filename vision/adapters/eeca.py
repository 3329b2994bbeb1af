"""EECA's dual branch, reconstructed: a low-resolution baseline that high-resolution windows refine, starting as the baseline itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter
from .mlp import MlpAdapter
from .start import LearnedVectors, ZeroLinear
from .windows import WindowAttention


class EecaAdapter(Adapter):
    """z_i = W2 GELU(W1 (v_i + e_i) + b1) + b2, with e_i the attention of v_i into its window of high-resolution tokens.

    Stated in the source (abstract and figure caption of arXiv 2411.16824): a dual branch that combines high- and low-resolution
    features, with supervision by a hierarchical classification and an entity-aware contrastive loss (those live in the objective).
    This toolkit's choice, as the paper's body and code were not at hand: everything else here. The fusion is Mini-Gemini's
    (`windows.WindowAttention`), with Wv and its bias starting at zero, so that at step 0 the output equals the low-resolution
    LLaVA-1.5 MLP's exactly; the MLP is made first, so the same seed gives the weights of `{type: mlp, bias: true}`.

    Branches: low, then high, whose grid is a whole multiple of low's; widths may differ. hidden_size, act: of the MLP.
    entity_queries: so many learned queries E read z after it, E + MHA(LN(E), z, z), and stand behind it; off (0) by default, as no
    source speaks of them. entity_heads: of that attention.
    """

    branches = (2, 2)

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        hidden_size: int | None = None,
        act: str = "gelu",
        entity_queries: int = 0,
        entity_heads: int = 8,
    ) -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        self.mlp = MlpAdapter(inputs[:1], out_width, hidden_size=hidden_size, bias=(True, True), act=act)
        self.attention = WindowAttention(*inputs, value=ZeroLinear)
        self.entity_queries = LearnedVectors(entity_queries, out_width) if entity_queries else None
        if entity_queries:
            if out_width % entity_heads:
                raise ValueError(f"entity_heads must divide the language model's width {out_width}, got {entity_heads}")
            self.entity_norm = nn.LayerNorm(out_width)
            self.entity_attention = nn.MultiheadAttention(out_width, entity_heads, batch_first=True)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        low, high = branches
        tokens = self.mlp(replace(low, features=low.features + self.attention(low, high)))
        return tokens if self.entity_queries is None else self._with_entities(tokens, self.entity_queries)

    def _with_entities(self, tokens: VisualTokens, queries: LearnedVectors) -> VisualTokens:
        """[B, N, D] -> [B, N + Q, D], which no longer is a grid."""
        expanded = queries.expand(tokens.features.shape[0])
        read, _ = self.entity_attention(
            self.entity_norm(expanded), tokens.features, tokens.features, key_padding_mask=~tokens.mask, need_weights=False
        )
        mask = torch.cat([tokens.mask, tokens.mask.new_ones(expanded.shape[:2])], 1)
        return replace(tokens, features=torch.cat([tokens.features, expanded + read], 1), mask=mask, grid=None)

    def tokens_out(self) -> int:
        return self.inputs[0].total + (0 if self.entity_queries is None else len(self.entity_queries.weight))
