"""Flamingo's Perceiver resampler: a fixed number of learned latents read any number of visual tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter
from .start import LearnedVectors


class LatentAttention(nn.Module):
    """Attn(q = LN(l), k = v = LN([x; l])), no biases."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_tokens, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, tokens: torch.Tensor, latents: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """[B, N, d], [B, L, d], bool [B, 1, 1, N + L] -> [B, L, d]."""
        latents = self.norm_latents(latents)
        read = torch.cat([self.norm_tokens(tokens), latents], 1)
        parts = (self.query(latents), *self.key_value(read).chunk(2, -1))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # [B, heads, n, head_width]
        return self.out(F.scaled_dot_product_attention(query, key, value, attn_mask=real).transpose(1, 2).flatten(2))


class ResamplerAdapter(Adapter):
    """L <- L + Attn(LN L, LN [x; L]); L <- L + FFN(LN L), `depth` times; LN [R: mlfoundations/open_flamingo,
    open_flamingo/src/helpers.py, PerceiverResampler, without embeddings of frames and media].

    Any number of input tokens, with or without a class token; masked ones are not read. The last Linear to the language model's
    width is this toolkit's choice: Flamingo's decoder reads the latents in their own width by cross-attention.
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        num_tokens: int = 64,
        depth: int = 6,
        heads: int = 8,
        head_width: int = 64,
        widening: int = 4,
    ) -> None:
        super().__init__(inputs, out_width)
        width = inputs[0].width
        self.latents = LearnedVectors(num_tokens, width, std=1.0)
        self.attentions = nn.ModuleList(LatentAttention(width, heads, head_width) for _ in range(depth))
        self.feed_forwards = nn.ModuleList(_feed_forward(width, widening) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out_width)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        latents = self.latents.expand(len(tokens.features))  # [B, L, d]
        real = torch.cat([tokens.mask, tokens.mask.new_ones(latents.shape[:2])], 1)[:, None, None]
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            latents = latents + attention(tokens.features, latents, real)
            latents = latents + feed_forward(latents)
        return VisualTokens.full(self.out(self.norm(latents)), None, level=tokens.level)

    def tokens_out(self) -> int:
        return len(self.latents.weight)


def _feed_forward(width: int, widening: int) -> nn.Sequential:
    inner = width * widening
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False))
