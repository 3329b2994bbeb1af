"""VidCom2: frames that stand out keep more tokens, and of each frame the tokens that are least like the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_positive, check_share

ALPHAS = tuple(2.0**k for k in range(-3, 2))


@dataclass(frozen=True)
class VidCom2(Reducer):
    """On the half of the channels that vary least, unit length: s = sum over a in 1/8 .. 2 of exp(-|x - mean|^2 / 2a), to the mean of the
    film and of the frame. A frame keeps round(N min(1, keep (1 + p - mean p))) tokens, at least one, p = softmax of minus its mean
    similarity to the film over 0.01; those with the least sum of both similarities stay
    [R: xuyang-liu16/VidCom2 token_compressor/vidcom2/vidcom2.py]."""

    keep: float = 0.25
    channels: float = 0.5
    temperature: float = 0.01

    def __post_init__(self) -> None:
        check_share(keep=self.keep, channels=self.channels)
        check_positive(temperature=self.temperature)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        with torch.no_grad():
            counts, alike = self._weighed(features.float())
        number = features.shape[1]
        kept = [row.argsort(stable=True)[:count] + frame * number for frame, (row, count) in enumerate(zip(alike, counts, strict=True))]
        return Reduced.picked(features, torch.cat(kept), grid)

    def _weighed(self, features: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        """Tokens of each frame, and how like the rest each token is [T, N]."""
        variance = features.flatten(0, 1).var(0, unbiased=False)
        steady = variance.argsort(stable=True)[: max(int(features.shape[-1] * self.channels), 1)]
        unit = F.normalize(features[..., steady], dim=-1)
        to_film = _gaussians(unit, unit.mean((0, 1), keepdim=True))
        to_frame = _gaussians(unit, unit.mean(1, keepdim=True))
        share = F.softmax(-to_film.mean(1) / self.temperature, dim=0)
        scales = (self.keep * (1 + share - share.mean())).clamp(max=1.0)
        counts: list[int] = (scales * features.shape[1]).round().long().clamp(min=1).tolist()
        return counts, to_film + to_frame

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> None:
        return None


def _gaussians(x: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    squared = ((x - centre) ** 2).sum(-1)
    return torch.stack([torch.exp(-squared / (2 * alpha)) for alpha in ALPHAS]).sum(0)
