"""A cache layer with room behind its last token: a step writes one column where the library copies all of them."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

LEAST_ROOM = 32  # columns; room is half of the length where that is more


class GrowingLayer(DynamicLayer):
    """`keys` and `values` [R, H, L, D] are views of buffers that are longer than L."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, layer.is_initialized
        self.keys, self.values = layer.keys, layer.values
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.keys.shape[-2]
        end = length + key_states.shape[-2]
        if self.buffers is None or self.buffers[0].shape[-2] < end:
            self._move(slice(None), end)
        assert self.buffers is not None
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, length:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """In place where the kept rows stand where they stood, or come from behind them (see `closed_up`)."""
        count = len(indices)
        moved = (indices != torch.arange(count, device=indices.device)).nonzero()[:, 0]
        if self.buffers is None or count > self.keys.shape[0] or bool((indices[moved] < count).any()):
            self._move(indices, self.keys.shape[-2])
            return
        length = self.keys.shape[-2]
        for buffer in self.buffers:
            buffer[moved, :, :length] = buffer[indices[moved], :, :length]
        self.buffers = (self.buffers[0][:count], self.buffers[1][:count])
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)

    def _move(self, rows: Any, end: int) -> None:
        """Into new buffers for the chosen rows, with room behind column `end`."""
        length = self.keys.shape[-2]
        room = end + max(LEAST_ROOM, end // 2)
        moved = []
        for old in (self.keys, self.values):
            chosen = old[rows]
            new = old.new_empty(*chosen.shape[:2], room, old.shape[-1])
            new[:, :, :length] = chosen
            moved.append(new)
        self.buffers = (moved[0], moved[1])
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


def closed_up(kept: list[int]) -> list[int]:
    """The rows `kept` (ascending) in an order in which as few as possible move: the last ones fill the places that became free."""
    count = len(kept)
    staying = set(kept[: next((i for i, row in enumerate(kept) if row >= count), count)])
    comers = iter(kept[len(staying) :])
    return [place if place in staying else next(comers) for place in range(count)]


def with_room(cache: Any) -> None:
    """Puts growing layers in the place of the library's plain ones; layers that keep anything else stay as they are."""
    for place, layer in enumerate(getattr(cache, "layers", ())):
        if type(layer) is DynamicLayer and layer.is_initialized:
            cache.layers[place] = GrowingLayer(layer)
