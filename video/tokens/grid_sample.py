"""Grid sampling: a regular sub-grid of each frame's patches, the others are left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Reduced, Reducer, Seen, check_positive


@dataclass(frozen=True)
class GridSample(Reducer):
    """Every `stride`-th row and column from `start` on: sampling on the token axis, as Opt-Visor compares it with pooling
    [R: RUCAIBox/Opt-Visor README, 4 x 4 -> 2 x 2]."""

    stride: int = 2
    start: int = 0

    def __post_init__(self) -> None:
        check_positive(stride=self.stride)
        if not 0 <= self.start < self.stride:
            raise ValueError(f"start is a row below the stride {self.stride}, got {self.start}")

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        places = torch.arange(len(features) * grid[0] * grid[1], device=features.device).view(len(features), *grid)
        return Reduced.picked(features, places[:, self._from(grid[0]) :: self.stride, self._from(grid[1]) :: self.stride].flatten(), grid)

    def _from(self, side: int) -> int:
        return min(self.start, side - 1)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int]:
        rows, columns = (len(range(self._from(side), side, self.stride)) for side in grid)
        return [rows * columns] * frames
