"""What every encoder offers: a way of reading one vision tower, pixels -> VisualTokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from ..tokens import TokenFacts, VisualTokens


@dataclass(frozen=True)
class Encoder(ABC):
    """Reads the features of one layer of `tower`.

    Not a module: it owns no weights, so a model keeps the bare tower under its own name and checkpoint keys stay the
    library's. `layer` counts as `hidden_states` of transformers does: 0 the embeddings, k the output of layer k, -1 the
    last layer's output before any final norm, -2 the one before; of a tower of stages, stages count as layers. `keep_cls`
    keeps the class token as token 0; register tokens are always dropped. A tower none of whose parameters trains is read in
    eval mode.
    """

    tower: nn.Module
    layer: int = -2
    keep_cls: bool = False

    @abstractmethod
    def hidden(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, P + N, D]: P prefix tokens (class token first), then N patches row by row."""

    @abstractmethod
    def grid(self, pixel_values: torch.Tensor, tokens: int) -> tuple[int, int]:
        """Rows and columns of the patches of these pixels, of which the tower made `tokens` tokens, prefix included."""

    @abstractmethod
    def unread(self) -> list[nn.Parameter]:
        """Parameters behind the layer that is read: no gradient ever reaches them, so training should freeze them."""

    def __call__(self, pixel_values: torch.Tensor) -> VisualTokens:
        if pixel_values.ndim != 4:
            raise ValueError(f"pixel_values are [B, 3, H, W], got shape {tuple(pixel_values.shape)}")
        if self.tower.training and not any(p.requires_grad for p in self.tower.parameters()):
            self.tower.eval()  # frozen: no patch dropped, no position jittered, whatever mode its model trains in
        weight = next(self.tower.parameters())
        hidden = self.hidden(pixel_values.to(weight.device, weight.dtype))  # [B, P + N, D]
        grid = self.grid(pixel_values, hidden.shape[1])
        prefix = hidden.shape[1] - grid[0] * grid[1]
        return VisualTokens.full(self._kept(hidden, prefix), grid, prefix=int(self.keep_cls))

    def _kept(self, hidden: torch.Tensor, prefix: int) -> torch.Tensor:
        if prefix < 0:
            raise ValueError(f"the tower gave {hidden.shape[1]} tokens, fewer than its patch grid has")
        if not self.keep_cls:
            return hidden[:, prefix:]
        if prefix == 0:
            raise ValueError(f"keep_cls is set but {type(self.tower).__name__} has no class token; set keep_cls to False")
        return torch.cat([hidden[:, :1], hidden[:, prefix:]], dim=1)


class Look(NamedTuple):
    """What a tower built without memory tells: its facts, the side of its pictures, and of a staged one the facts of each stage."""

    facts: TokenFacts
    image_size: int
    stages: list[TokenFacts] | None = None


class Trained(NamedTuple):
    """A tower with its library's weights, and the config that builds it again. `about`: further keys of that config."""

    library: str
    name: str
    kwargs: dict[str, Any]
    about: dict[str, Any]
    model: nn.Module


def constants(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a library's settings of a checkpoint (`mean`, `std`) say of its pixels, as keys of a tower's config."""
    return {f"image_{key}": list(told[key]) for key in ("mean", "std") if told.get(key) is not None}


def parameters_of(*modules: object) -> list[nn.Parameter]:
    """All parameters of modules, parameters and lists of modules; None and missing parts have none."""
    found = [[m] if isinstance(m, nn.Parameter) else list(m.parameters()) for m in modules if isinstance(m, nn.Parameter | nn.Module)]
    return [parameter for some in found for parameter in some]


def layers_needed(layer: int, count: int) -> int:
    """How many of `count` layers must run for `hidden_states[layer]`; IndexError when there is no such entry."""
    depth = layer if layer >= 0 else count + 1 + layer
    if not 0 <= depth <= count:
        raise IndexError(f"feature layer {layer} does not exist: a tower of {count} layers has entries {-count - 1} to {count}")
    return depth
