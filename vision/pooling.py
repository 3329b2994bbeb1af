"""Average pooling of feature maps whose sides are no whole number of windows."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Edges = Literal["real", "zeros"]


def average(maps: torch.Tensor, kernels: tuple[int, ...], edges: Edges = "real") -> torch.Tensor:
    """[B, D, rows, columns] or [B, D, frames, rows, columns] -> the same with each side ceil(side / kernel): means of windows.

    A window that reaches over the edge is, by edges "real", the mean of the patches it has; by "zeros" the rest counts as patches of
    zero, so that of Opt-Visor's 27 rows in windows of 4 the last are 3/4 as large, and its corner 9/16.
    """
    whole = padded(maps, kernels)
    # over time in float32, as a GPU sums too: on a CPU there is no other way for bfloat16
    pooled = F.avg_pool2d(whole, kernels) if len(kernels) == 2 else F.avg_pool3d(whole.float(), kernels).to(maps.dtype)
    if edges == "zeros":
        return pooled
    for axis, (side, k) in enumerate(zip(maps.shape[2:], kernels, strict=True)):
        if inside := side % k:
            last = torch.ones(pooled.shape[2 + axis], dtype=maps.dtype, device=maps.device)
            last[-1] = k / inside
            pooled = pooled * last.view(-1, *[1] * (len(kernels) - 1 - axis))
    return pooled


def padded(maps: torch.Tensor, kernels: tuple[int, ...]) -> torch.Tensor:
    """The maps with zeros at the ends of their sides, so that windows fill them."""
    sides = maps.shape[2:]
    room = [extra for side, k in zip(reversed(sides), reversed(kernels), strict=True) for extra in (0, -side % k)]
    return F.pad(maps, room)
