"""Windows of a pooled film: where their centres are and how many tokens each has."""

from __future__ import annotations

import torch


def windows(frames: int, grid: tuple[int, int], kernels: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat places of the centres (of two middles the earlier) and numbers of tokens, of the windows of so many frames, rows and
    columns that cover the film, those at the end as large as what is left."""
    axes = [_axis(size, kernel) for size, kernel in zip((frames, *grid), kernels, strict=True)]
    (t, tn), (y, yn), (x, xn) = axes
    places = (t[:, None, None] * grid[0] + y[None, :, None]) * grid[1] + x[None, None, :]
    return places.flatten(), (tn[:, None, None] * yn[None, :, None] * xn[None, None, :]).flatten()


def _axis(size: int, kernel: int) -> tuple[torch.Tensor, torch.Tensor]:
    first = torch.arange(0, size, kernel)
    inside = (size - first).clamp(max=kernel)
    return first + (inside - 1) // 2, inside
