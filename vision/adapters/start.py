"""Parts whose weights start otherwise than general rules for linear layers would start them: at zero, or as random vectors."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn


class StartsItself(nn.Module):
    """A module that knows how its own parameters start; a model that starts all weights by general rules leaves it to `reset_parameters`.

    `reset_parameters` uses functions of `torch.nn.init` only: transformers teaches those to leave loaded weights alone.
    """

    @abstractmethod
    def reset_parameters(self) -> None: ...


class ZeroLinear(StartsItself, nn.Linear):
    """A Linear that starts at zero, weight and bias: what it feeds is absent until training wants it."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class LearnedVectors(StartsItself):
    """`count` learned vectors, normal with deviation `std` at the start: queries, latents, places. `weight` [count, width]."""

    def __init__(self, count: int, width: int, *, std: float = 0.02) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"an adapter needs at least one learned vector, asked for {count}")
        self.std = std
        self.weight = nn.Parameter(torch.empty(count, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.std)

    def expand(self, batch: int) -> torch.Tensor:
        """[batch, count, width]"""
        return self.weight.expand(batch, -1, -1)
