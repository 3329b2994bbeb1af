"""Density peaks (DPC-KNN): centres among tokens that have many near neighbours and are far from denser ones."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Peaks(NamedTuple):
    """score [B, N], higher for better centres; distance [B, N, N], Euclidean over the root of the width."""

    score: torch.Tensor
    distance: torch.Tensor

    def centres(self, count: int) -> torch.Tensor:
        """[B, count], the best first."""
        return self.score.argsort(dim=-1, descending=True, stable=True)[:, :count]

    def assigned(self, centres: torch.Tensor) -> torch.Tensor:
        """[B, N]: the number of each token's nearest centre, its own for a centre."""
        to_centres = self.distance.gather(2, centres[:, None, :].expand(-1, self.distance.shape[1], -1))  # [B, N, count]
        return to_centres.argmin(2).scatter(1, centres, torch.arange(centres.shape[1], device=centres.device).expand_as(centres))


@torch.no_grad()
def density_peaks(x: torch.Tensor, neighbours: int) -> Peaks:
    """Tokens [B, N, D]. density = exp(-mean of the squared distances to the nearest `neighbours`, itself counted); score = density x the
    distance to the nearest denser token, for the densest the largest distance that there is.

    Sources add random noise to part equal densities; here the earlier token counts as the denser, so the same tokens always give the same.
    """
    x = x.float()
    distance = torch.cdist(x, x) / x.shape[-1] ** 0.5
    nearest = distance.topk(min(neighbours, x.shape[1]), dim=-1, largest=False).values
    density = (-(nearest**2).mean(-1)).exp()  # [B, N]
    place = torch.arange(x.shape[1], device=x.device)
    ties = (density[:, None, :] == density[:, :, None]) & (place[None, :] < place[:, None])
    denser = (density[:, None, :] > density[:, :, None]) | ties
    largest = distance.flatten(1).max(-1).values[:, None, None]
    apart = torch.where(denser, distance, largest).min(-1).values
    return Peaks(apart * density, distance)


def cluster_means(x: torch.Tensor, assigned: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means [B, count, D] and sizes [B, count] of clusters of tokens [B, N, D]; none is empty."""
    sizes = torch.zeros(len(x), count, dtype=x.dtype, device=x.device).scatter_add(1, assigned, torch.ones_like(x[..., 0]))
    sums = torch.zeros(len(x), count, x.shape[-1], dtype=x.dtype, device=x.device)
    return sums.scatter_add(1, assigned[..., None].expand_as(x), x) / sizes[..., None], sizes
