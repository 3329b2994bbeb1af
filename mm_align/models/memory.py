"""Bytes that keys and values take."""

from __future__ import annotations

from typing import Any


def kv_bytes_per_token(text: Any, width: int) -> int:
    """Bytes of keys and values of one token through all layers of the decoder config `text`, `width` bytes a number."""
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * int(text.num_hidden_layers) * int(kv_heads) * int(head_dim) * width
