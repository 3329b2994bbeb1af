"""How much each patch is attended to inside a tower, and the keys it is matched by: what attention-based token reduction goes by."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch

from ..tokens import VisualTokens
from .base import Encoder, layers_needed
from .transformers_ import FAMILIES, TransformersEncoder, part_of

CHUNK = 8  # pictures at once: attention is heads x tokens x tokens each
KINDS = ("siglip_vision_model", "siglip2_vision_model", "clip_vision_model")


READABLE = f"attention can be read in towers of {', '.join(KINDS)}"


class Attended(NamedTuple):
    """attention [B, N]: what the class token gives each patch, summed over heads, or, where the tower has none, what a patch gets from all
    patches on average. keys [B, N, d]: the mean of its heads' keys."""

    attention: torch.Tensor
    keys: torch.Tensor


class ReadAttended(NamedTuple):
    """What the encoder gives, and the attention of one layer."""

    tokens: VisualTokens
    attended: Attended


def can_be_read(encoder: Encoder) -> bool:
    """Whether `read_attended` knows this tower."""
    return isinstance(encoder, TransformersEncoder) and encoder.tower.config.model_type in KINDS


def read_attended(encoder: Encoder, pixel_values: torch.Tensor, layer: Literal["last", "next"] = "last") -> ReadAttended:
    """`encoder(pixel_values)` and the attention in the "last" layer that it runs, or in the "next" one, which works on its features.

    From queries and keys, so that any attention implementation of the tower will do. ValueError for a tower other than CLIP and SigLIP.
    """
    if not isinstance(encoder, TransformersEncoder) or not can_be_read(encoder):
        raise ValueError(f"{READABLE}; for another choose a reducer that needs none")
    found = [_read(encoder, some, layer) for some in pixel_values.split(CHUNK)]
    tokens = VisualTokens.full(torch.cat([one.tokens.features for one in found]), found[0].tokens.grid, prefix=found[0].tokens.prefix)
    return ReadAttended(tokens, Attended(*(torch.cat(parts) for parts in zip(*(one.attended for one in found), strict=True))))


def _read(encoder: TransformersEncoder, pixels: torch.Tensor, layer: str) -> ReadAttended:
    family = FAMILIES[encoder.tower.config.model_type]
    layers = part_of(encoder.tower, family.layers)
    number = layers_needed(encoder.layer, len(layers)) - (layer == "last")
    if not 0 <= number < len(layers):
        raise ValueError(f"layer {encoder.layer} of {len(layers)} has no {'layer before it' if number < 0 else 'next layer'}")
    into: list[torch.Tensor] = []
    block = layers[number]
    hook = block.layer_norm1.register_forward_hook(lambda module, given, normed: into.append(normed))
    try:
        tokens = encoder(pixels)
        if layer == "next":
            with_prefix = encoder.hidden(pixels.to(tokens.features.device, tokens.features.dtype)) if family.prefix else tokens.features
            block.layer_norm1(with_prefix)
    finally:
        hook.remove()
    return ReadAttended(tokens, _attended(block.self_attn, into[-1], family.prefix))


@torch.no_grad()
def _attended(attention: Any, hidden: torch.Tensor, prefix: int) -> Attended:
    """hidden: [B, P + N, D], normed."""
    width = hidden.shape[-1] // attention.num_heads
    query, key = (layer(hidden).unflatten(-1, (-1, width)).transpose(1, 2).float() for layer in (attention.q_proj, attention.k_proj))
    odds = torch.softmax(query @ key.transpose(2, 3) * width**-0.5, dim=-1)  # [B, heads, P + N, P + N]
    received = odds[:, :, 0] if prefix else odds.mean(2)
    return Attended(received.sum(1)[:, prefix:], key.mean(1)[:, prefix:])
