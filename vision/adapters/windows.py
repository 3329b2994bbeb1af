"""Windows of a fine grid under the cells of a coarse one, and attention from each cell into its own window."""

from __future__ import annotations

import torch
from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import grid_of


def window_of(fine: tuple[int, int], cells: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of `fine` patches under one of the `cells`; ValueError where the grid is no whole multiple."""
    if any(many % few or many < few for many, few in zip(fine, cells, strict=True)):
        raise ValueError(
            f"a grid of {fine[0]} x {fine[1]} cannot be cut into one window for each of {cells[0]} x {cells[1]} cells: rows and columns "
            f"must be whole multiples; change image_size or crops of the branch"
        )
    return fine[0] // cells[0], fine[1] // cells[1]


def windows(values: torch.Tensor, fine: tuple[int, int], cells: tuple[int, int]) -> torch.Tensor:
    """[B, N, ...] in the row order of a `fine` grid -> [B, cells, patches of a window, ...], both in row order."""
    height, width = window_of(fine, cells)
    cut = values.unflatten(1, (cells[0], height, cells[1], width))  # [B, R, h, C, w, ...]
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class WindowAttention(nn.Module):
    """What the window W(i) of high-resolution tokens h adds to each low-resolution token v_i. One head.

    q_i = Wq LN(v_i), k_m = Wk LN(h_m), u_m = Wv LN(h_m);  e_i = sum_{m in W(i)} softmax_m(q_i . k_m / sqrt(d)) u_m,
    all in the width d of the low tokens [R: dvlab-research/MGM, mgm/model/mgm_arch.py, unified_resampler]. Masked tokens of a window
    count for nothing; a window without a real token adds zero. value: the layer that is Wv.
    """

    def __init__(self, low: TokenFacts, high: TokenFacts, *, value: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        window_of(high.grid, low.grid)
        self.query = nn.Sequential(nn.LayerNorm(low.width), nn.Linear(low.width, low.width))
        self.key = nn.Sequential(nn.LayerNorm(high.width), nn.Linear(high.width, low.width))
        self.value = nn.Sequential(nn.LayerNorm(high.width), value(high.width, low.width))

    def forward(self, low: VisualTokens, high: VisualTokens) -> torch.Tensor:
        """[B, N, d] and [B, N k^2, D] -> e [B, N, d]."""
        fine, cells = grid_of(high), grid_of(low)
        query = self.query(low.features) / low.features.shape[-1] ** 0.5
        keys = windows(self.key(high.features), fine, cells)  # [B, N, k^2, d]
        values = windows(self.value(high.features), fine, cells)
        real = windows(high.mask, fine, cells)  # [B, N, k^2]
        scores = torch.einsum("bnd,bnkd->bnk", query, keys)
        weights = scores.masked_fill(~real, torch.finfo(scores.dtype).min).softmax(-1) * real
        return torch.einsum("bnk,bnkd->bnd", weights, values)
