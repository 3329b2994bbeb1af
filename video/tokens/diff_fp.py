"""DiffFP, VideoLLaMA3's differential frame pruner: patches that look as they did a frame before are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_positive


@dataclass(frozen=True)
class DiffFp(Reducer):
    """A token stays where the mean absolute difference of its patch's pixels (as the tower gets them) to the frame before, times 255, is
    above `threshold`; a frame keeps its first `least` tokens where fewer would stay
    [R: DAMO-NLP-SG/VideoLLaMA3 videollama3/model/videollama3_arch.py, _get_compression_mask].

    against "kept" compares with the patch that stayed last, so that slow change is not lost; the source's is "previous".
    """

    threshold: float = 0.1
    least: int = 1
    against: Literal["previous", "kept"] = "previous"

    def __post_init__(self) -> None:
        if self.against not in ("previous", "kept"):
            raise ValueError(f"against is 'previous' or 'kept', got {self.against!r}")
        check_positive(least=self.least)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("pixels",)

    @torch.no_grad()
    def _stays(self, pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """[T, h x w] bool."""
        if self.against == "previous":
            moved = _change(pixels[1:], pixels[:-1], grid) > self.threshold
            stays = torch.cat([torch.ones_like(moved[:1]) if len(moved) else moved.new_ones(1, grid[0] * grid[1]), moved])
        else:
            stays = self._against_kept(pixels, grid)
        few = stays.sum(1) < self.least
        stays[few, : self.least] = True
        return stays

    def _against_kept(self, pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        last, rows = pixels[:1], [torch.ones(1, grid[0] * grid[1], dtype=torch.bool, device=pixels.device)]
        for frame in pixels[1:].split(1):
            rows.append(_change(frame, last, grid) > self.threshold)
            moved = F.interpolate(rows[-1].view(1, 1, *grid).float(), size=pixels.shape[2:], mode="nearest") > 0
            last = torch.where(moved, frame, last)
        return torch.cat(rows)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        assert seen.pixels is not None  # `needs`
        stays = self._stays(seen.pixels.float(), grid).flatten().to(features.device)
        return Reduced.picked(features, stays.nonzero()[:, 0], grid)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> None:
        return None


def _change(pixels: torch.Tensor, before: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """[T, C, H, W] twice -> [T, h x w], the mean absolute difference of each patch, times 255."""
    if not len(pixels):
        return pixels.new_zeros(0, grid[0] * grid[1])
    return F.adaptive_avg_pool2d((pixels - before).abs().mean(1, keepdim=True), grid).flatten(1) * 255
