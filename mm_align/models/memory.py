"""Bytes that keys and values take, and parts of a device's memory with how they come about."""

from __future__ import annotations

from typing import Any, NamedTuple

GIB = 1 << 30


class Part(NamedTuple):
    """A part of what a job needs on one device. `how`: in words, with the numbers that went in."""

    name: str
    bytes: int
    how: str


def kv_bytes_per_token(text: Any, width: int) -> int:
    """Bytes of keys and values of one token through all layers of the decoder config `text`, `width` bytes a number."""
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * int(text.num_hidden_layers) * int(kv_heads) * int(head_dim) * width


def shown(count: int) -> str:
    """Bytes in GiB, or in MiB where less than a tenth of a GiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.1f} MiB"
