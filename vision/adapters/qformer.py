"""BLIP-2's Q-Former as an adapter: learned queries through BERT-like layers that read the picture in every second one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter
from .start import LearnedVectors


class QFormerAdapter(Adapter):
    """Linear(QFormer(queries, LN(x))) [R: salesforce/LAVIS, lavis/models/blip2_models/{Qformer,blip2_opt}.py; the layers are those of
    transformers, models/blip_2, Blip2QFormerModel]: per layer self-attention among the queries, in every second layer cross-attention to
    the picture, feed-forward; norms behind.

    num_tokens: number of queries. width, layers, heads: BERT-base's by default, feed-forward four times as wide. Any number of input
    tokens, with or without a class token; masked ones are not read. Starts random: BLIP-2's own first stage, which trains it
    with text before any language model, is not part of it. ValueError for heads that do not divide the width.
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        num_tokens: int = 32,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        dropout: float = 0.1,
    ) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel  # half a second that other adapters need not wait for

        super().__init__(inputs, out_width)
        if width % heads:
            raise ValueError(f"the heads of a Q-Former divide its width, got {heads} heads and width {width}")
        config = Blip2QFormerConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            encoder_hidden_size=inputs[0].width,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.norm = nn.LayerNorm(inputs[0].width)
        self.queries = LearnedVectors(num_tokens, width)
        self.qformer = Blip2QFormerModel(config)
        self.out = nn.Linear(width, out_width)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        read = self.qformer(
            query_embeds=self.queries.expand(len(tokens.features)),
            encoder_hidden_states=self.norm(tokens.features),
            encoder_attention_mask=tokens.mask,
        )
        return VisualTokens.full(self.out(read.last_hidden_state), None, level=tokens.level)

    def tokens_out(self) -> int:
        return len(self.queries.weight)
