"""Average pooling over frames: compression on the frame axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vision.pooling import Edges, average

from .base import Reduced, Reducer, Seen, check_positive
from .windows import windows


@dataclass(frozen=True)
class TemporalPool(Reducer):
    """Means over `frames` frames, and over kernel x kernel patches of each
    [R: RUCAIBox/Opt-Visor projector.py, TemporalPoolingProjector, with edges "zeros": its time too is padded with zeros]."""

    frames: int = 2
    kernel: int = 1
    edges: Edges = "real"

    def __post_init__(self) -> None:
        check_positive(frames=self.frames, kernel=self.kernel)
        if self.edges not in ("real", "zeros"):
            raise ValueError(f"edges are 'real' or 'zeros', got {self.edges!r}")

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        kernels = (self.frames, self.kernel, self.kernel)
        film = features.permute(2, 0, 1).unflatten(2, grid)[None]  # [1, D, T, h, w]
        pooled = average(film, kernels, self.edges)[0].flatten(1).transpose(0, 1)
        places, sizes = windows(len(features), grid, kernels)
        return Reduced.of(pooled, places.to(features.device), sizes.to(features.device), grid)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int]:
        places, _ = windows(frames, grid, (self.frames, self.kernel, self.kernel))
        return torch.bincount(places // (grid[0] * grid[1]), minlength=frames).tolist()
