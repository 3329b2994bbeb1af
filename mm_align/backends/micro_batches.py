"""How many rows at once: an estimate from free memory, and halving when memory runs out."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from ..models.memory import kv_bytes_per_token

log = logging.getLogger(__name__)

MARKS = ("out of memory", "can't allocate memory", "cannot allocate memory")
LARGEST = 64
Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatches:
    """Runs work over items `size` at a time; `size` is halved for good when memory runs out."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"the batch size must be at least 1, got {size}")
        self.size = size

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]], most: int | None = None) -> list[Result]:
        """The results of all items in order. most: a limit for this call. Raises MemoryError when not even one item fits."""
        results: list[Result] = []
        start = 0
        while start < len(items):
            chunk = items[start : start + min(self.size, most or self.size)]
            done = self._attempt(chunk, work)
            if done is None:
                continue
            results.extend(done)
            start += len(chunk)
        return results

    def _attempt(self, chunk: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]) -> Sequence[Result] | None:
        """None when memory ran out and a smaller size was set."""
        try:
            return work(chunk)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            trouble = " ".join(str(error).split())[:200]
        self._shrink(len(chunk), trouble)
        return None

    def _shrink(self, tried: int, trouble: str) -> None:
        if tried == 1:
            raise MemoryError(
                f"out of memory with a single row ({trouble}); use a smaller model, a shorter prompt, dtype bfloat16 or another device"
            )
        self.size = tried // 2
        log.warning("out of memory with %d rows at once; going on with %d (%s)", tried, self.size, trouble)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's error class, the CPU allocator's RuntimeError, or Python's own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(mark in str(error).lower() for mark in MARKS)


def auto_size(model: Any, device: torch.device, tokens: int = 1536, rows: int = 1) -> int:
    """A power of two up to 64: so many samples of `rows` rows of `tokens` tokens should fill at most half of the free memory
    (this toolkit's estimate)."""
    return size_for(model, free_memory(device), tokens, rows)


def size_for(model: Any, free: int, tokens: int = 1536, rows: int = 1) -> int:
    """`auto_size` where `free` bytes are free; 1 where not even one fits."""
    room = free // 2
    size = LARGEST
    while size > 1 and size * rows * row_bytes(model, tokens) > room:
        size //= 2
    return size


def row_bytes(model: Any, tokens: int) -> int:
    """Keys and values of one row twice (a step copies them) and the widest activations of its prefill."""
    text = model.config.get_text_config()
    tokens = min(tokens, getattr(text, "max_position_embeddings", tokens))
    width = model.dtype.itemsize
    activations = tokens * width * (4 * text.hidden_size + 3 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size))
    return 2 * tokens * kv_bytes_per_token(text, width) + activations


def free_memory(device: torch.device) -> int:
    """Bytes free on `device` now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
