"""Average pooling of each frame: compression on the token axis, which keeps more meaning than leaving patches out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vision.pooling import Edges, average

from .base import Reduced, Reducer, Seen, check_positive
from .windows import windows


@dataclass(frozen=True)
class AveragePool(Reducer):
    """Means of kernel x kernel patches, ceil(side / kernel) a side. edges: how a window over the edge is averaged, see
    `vision.pooling.average`; "zeros" is Opt-Visor's."""

    kernel: int = 2
    edges: Edges = "real"

    def __post_init__(self) -> None:
        check_positive(kernel=self.kernel)
        if self.edges not in ("real", "zeros"):
            raise ValueError(f"edges are 'real' or 'zeros', got {self.edges!r}")

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        pooled = average(features.transpose(1, 2).unflatten(2, grid), (self.kernel, self.kernel), self.edges)  # [T, D, r, c]
        places, sizes = windows(len(features), grid, (1, self.kernel, self.kernel))
        device = features.device
        return Reduced.of(pooled.flatten(2).transpose(1, 2).flatten(0, 1), places.to(device), sizes.to(device), grid)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int]:
        return [-(-grid[0] // self.kernel) * -(-grid[1] // self.kernel)] * frames
