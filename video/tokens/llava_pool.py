"""LLaVA-Video's pooling of each frame: average or maximum without the last row, or bilinear with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_positive


@dataclass(frozen=True)
class LlavaPool(Reducer):
    """Its get_2dPool [R: LLaVA-VL/LLaVA-NeXT llava/model/llava_arch.py]: "average" and "max" drop the rows and columns that fill no
    window (27 -> 13), "bilinear" interpolates to ceil(side / stride) (27 -> 14)."""

    stride: int = 2
    mode: Literal["average", "max", "bilinear"] = "bilinear"

    def __post_init__(self) -> None:
        check_positive(stride=self.stride)
        if self.mode not in ("average", "max", "bilinear"):
            raise ValueError(f"mode is 'average', 'max' or 'bilinear', got {self.mode!r}")

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        maps, sides = features.transpose(1, 2).unflatten(2, grid), self._sides(grid)
        if self.mode == "bilinear":
            pooled = F.interpolate(maps, size=sides, mode="bilinear")
        else:
            pooled = (F.avg_pool2d if self.mode == "average" else F.max_pool2d)(maps, self.stride)
        rows, columns = (self._centres(side, old).to(features.device) for side, old in zip(sides, grid, strict=True))
        frame = torch.arange(len(features), device=features.device) * (grid[0] * grid[1])
        places = (frame[:, None, None] + rows[None, :, None] * grid[1] + columns[None, None, :]).flatten()
        share = self.stride**2 if self.mode != "bilinear" else grid[0] * grid[1] / (sides[0] * sides[1])
        weight = torch.full(places.shape, float(share), device=features.device)
        return Reduced.of(pooled.flatten(2).transpose(1, 2).flatten(0, 1), places, weight, grid)

    def _sides(self, grid: tuple[int, int]) -> tuple[int, int]:
        if self.mode == "bilinear":
            return math.ceil(grid[0] / self.stride), math.ceil(grid[1] / self.stride)
        if min(grid) < self.stride:
            raise ValueError(f"a grid of {grid[0]} x {grid[1]} holds no window of {self.stride} x {self.stride}; pool by 'bilinear'")
        return grid[0] // self.stride, grid[1] // self.stride

    def _centres(self, side: int, old: int) -> torch.Tensor:
        if self.mode != "bilinear":
            return torch.arange(side) * self.stride + (self.stride - 1) // 2
        return ((torch.arange(side) + 0.5) * old / side - 0.5).round().long().clamp(0, old - 1)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int]:
        return [math.prod(self._sides(grid))] * frames
