"""A stand-in picture for batches that show none: under FSDP every process must run the tower when one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vision.tokens import VisualTokens

from ..models import LvlmModel


class StandIn:
    """Gives `model` a black picture where a batch has none, and says that none of its visual tokens is real.

    Layers that are spread over processes are gathered and their gradients exchanged when they run: a process that left
    out the tower would wait for others, or meet them at another layer. The stand-in changes no output; its gradients are 0.
    """

    def __init__(self, model: LvlmModel) -> None:
        self.side = model.config.image_size
        self.in_use = False
        model.adapter.register_forward_hook(self._without_tokens)

    def fill(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch, with the stand-in where it has no pictures; in a batch of pairs for the corrupted pictures too."""
        self.in_use = batch.get("pixel_values") is None and batch.get("tower_features") is None
        if not self.in_use:
            return dict(batch)
        pixels = torch.zeros(1, 3, self.side, self.side, device=batch["input_ids"].device)
        given = {"pixel_values": pixels} | ({"contrast_pixel_values": pixels} if "answer_places" in batch else {})
        return {key: value for key, value in batch.items() if key != "picture_index"} | given

    def _without_tokens(self, adapter: nn.Module, inputs: Any, output: VisualTokens) -> VisualTokens:
        return replace(output, mask=torch.zeros_like(output.mask)) if self.in_use else output


def stand_in_for(model: nn.Module) -> StandIn | None:
    """The stand-in of a model of this toolkit, None for another."""
    core = next((module for module in model.modules() if isinstance(module, LvlmModel)), None)
    return None if core is None else StandIn(core)
