"""Cambrian-1's spatial vision aggregator: a grid of queries, each reading its own window in every tower at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter, square_side
from .start import LearnedVectors
from .windows import window_of, windows


class AggregationLayer(nn.Module):
    """q <- q + MLP(LN(a + Attn(a, windows + places))), a = W_in [q; W_ctx context]; one softmax over the windows of all towers."""

    def __init__(self, width: int, heads: int, window_sizes: Sequence[int]) -> None:
        super().__init__()
        self.heads = heads
        self.context = nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(2 * width, width, bias=False)
        self.places = nn.ModuleList(LearnedVectors(size, width, std=1.0) if size > 1 else nn.Identity() for size in window_sizes)
        self.query = _normed_linear(width)
        self.keys = nn.ModuleList(_normed_linear(width) for _ in window_sizes)
        self.values = nn.ModuleList(_normed_linear(width) for _ in window_sizes)
        self.out = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False))

    def forward(self, queries: torch.Tensor, context: torch.Tensor, seen: Sequence[torch.Tensor], real: torch.Tensor) -> torch.Tensor:
        """[C, w] cells of all pictures, [C, w], per tower [C, K_i, w], bool [C, sum K_i] -> [C, w]."""
        mixed = self.mix(torch.cat([queries, self.context(context)], -1))
        placed = [s + p.weight if isinstance(p, LearnedVectors) else s for s, p in zip(seen, self.places, strict=True)]
        keys = torch.cat([project(part) for project, part in zip(self.keys, placed, strict=True)], 1)
        values = torch.cat([project(part) for project, part in zip(self.values, placed, strict=True)], 1)
        parts = (self.query(mixed)[:, None], keys, values)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # [C, heads, n, w / heads]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None]).flatten(1)
        return queries + self.mlp(self.norm(mixed + self.out(read)))


class SvaAdapter(Adapter):
    """Linear GELU Linear over queries that went through `depth` aggregation layers [R: cambrian-mllm/cambrian,
    cambrian/model/{vision_sampler,cambrian_arch}.py, with one group of queries, joint attention].

    Each tower first passes Linear, GELU, Linear, LN to `width`; one learned query is repeated over a square of `num_tokens` cells; the
    context is the mean of the first tower. Every tower's grid must be a whole multiple of the square. A window whose patches are all
    masked is read whole, as released. The further layers that Cambrian-1 puts inside its language model, and its newline tokens, are
    not part of this.
    """

    branches = (1, None)

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        num_tokens: int = 576,
        width: int = 1024,
        depth: int = 3,
        heads: int = 16,
    ) -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        if width % heads:
            raise ValueError(f"the heads of the aggregator divide its width, got {heads} heads and width {width}")
        self.cells = (square_side(num_tokens),) * 2
        sizes = [rows * columns for rows, columns in (window_of(facts.grid, self.cells) for facts in inputs)]
        self.towers = nn.ModuleList(nn.Sequential(*_mlp(facts.width, width), nn.LayerNorm(width)) for facts in inputs)
        self.query = LearnedVectors(1, width, std=width**-0.5)
        self.layers = nn.ModuleList(AggregationLayer(width, heads, sizes) for _ in range(depth))
        self.out = nn.Sequential(*_mlp(width, out_width))

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        self.check_grids(branches)
        maps = [tower(tokens.features) for tower, tokens in zip(self.towers, branches, strict=True)]  # [B, N_i, w]
        grids, count = [facts.grid for facts in self.inputs], self.tokens_out()
        seen = [windows(part, grid, self.cells).flatten(0, 1) for part, grid in zip(maps, grids, strict=True)]
        masks = [windows(tokens.mask, grid, self.cells).flatten(0, 1) for tokens, grid in zip(branches, grids, strict=True)]
        real = torch.cat([mask | ~mask.any(1, keepdim=True) for mask in masks], 1)  # [B cells, sum K_i]
        context = maps[0].mean(1).repeat_interleave(count, 0)  # [B cells, w]
        queries = self.query.weight.expand(len(context), -1)
        for layer in self.layers:
            queries = layer(queries, context, seen, real)
        return VisualTokens.full(self.out(queries.unflatten(0, (-1, count))), self.cells)

    def tokens_out(self) -> int:
        return self.cells[0] * self.cells[1]


def _normed_linear(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))


def _mlp(width: int, out_width: int) -> list[nn.Module]:
    return [nn.Linear(width, out_width), nn.GELU(), nn.Linear(out_width, out_width)]
