"""Sequences laid end to end in packs of a fixed capacity, so that batches hold hardly any padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

import numpy as np
import torch

WINDOW = 4096  # rows that are packed together: bounds time, and mixes short and long rows of a shuffled order


def packs_of(rows: np.ndarray, lengths: np.ndarray, capacity: int, window: int = WINDOW) -> list[np.ndarray]:
    """Rows -> packs of rows whose lengths sum to at most `capacity`: best-fit decreasing within windows of the given order.

    Johnson (1973): at most 11/9 of the least number of packs (plus a constant) in each window. Raises ValueError for a row
    longer than the capacity.
    """
    if len(rows) and int(lengths[rows].max()) > capacity:
        raise ValueError(f"a row of {int(lengths[rows].max())} tokens does not fit in packs of {capacity}")
    packs: list[np.ndarray] = []
    for start in range(0, len(rows), window):
        packs += _best_fit(rows[start : start + window], lengths, capacity)
    return packs


def _best_fit(rows: np.ndarray, lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """The fullest pack that still has room takes the row; ties go to the older pack."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens free, pack), sorted
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        length = int(lengths[row])
        at = bisect_left(room, (length, 0))
        free, pack = room.pop(at) if at < len(room) else (capacity, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(row)
        insort(room, (free - length, pack))
    return [np.array(pack, np.int64) for pack in packs]


@torch.no_grad()
def check_packing(model: Any, packs: int = 1) -> None:
    """Raises ValueError unless `model`'s language model keeps the samples of a pack apart, in batches of that many packs.

    Eleven tokens are read alone and behind nine others. Families with positions of their own making (OPT, BLOOM) or a
    state that runs on (Mamba) let samples see each other; flash attention does in batches of several packs. What a sample
    sees is measured against an ordinary context: packed, a difference of 5 % of its effect is too much (half in bf16).
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    first, second = (torch.arange(n, device=decoder.device) * 7 % decoder.config.vocab_size + n % 5 for n in (9, 11))
    ids = torch.cat([first, second]).expand(packs, -1)  # [packs, 20]
    positions = torch.cat([torch.arange(9), torch.arange(11)]).to(ids.device).expand(packs, -1)
    was_training = decoder.training
    decoder.eval()
    alone = _hidden(decoder, second[None], positions[:1, 9:])
    apart, together = _hidden(decoder, ids, positions)[:, 9:], _hidden(decoder, ids, None)[:, 9:]
    decoder.train(was_training)
    leak, context = ((one - alone).abs().max().item() for one in (apart, together))
    if not leak <= context * (0.05 if alone.dtype == torch.float32 else 0.5):
        raise ValueError(
            f"packing needs samples that do not see each other, and in a {decoder.config.model_type} with "
            f"{decoder.config._attn_implementation} attention and {packs} packs a batch they do (a sample's states move by {leak:.2g}, an "
            f"ordinary context moves them by {context:.2g}). Turn packing off; of flash attention, give batches of one pack"
        )


def _hidden(decoder: Any, ids: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    return decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state  # [B, L, D]
