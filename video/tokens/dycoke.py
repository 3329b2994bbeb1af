"""DyCoke's first stage, temporal token merging: of neighbouring frames the tokens that repeat are left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_share


@dataclass(frozen=True)
class DyCoke(Reducer):
    """In groups of four frames, the second against the first, the fourth against the third, the third against the first: int((1 - removed)
    N) tokens stay, those least like the token at their place there; first frames stay whole
    [R: KD-TAO/DyCoke llava/model/llava_arch.py, dycole_ttm; (1 - removed) is its order of arithmetic].

    The source leaves the third frame of the last group whole, and drops the last of an odd number of frames; `released` does so.
    """

    removed: float = 0.7
    released: bool = False

    def __post_init__(self) -> None:
        check_share(removed=self.removed)

    def against(self, frame: int, frames: int) -> int | None:
        """The frame that `frame` is compared with; None where it stays whole."""
        if frame % 2:
            return frame - 1
        thinned = frame % 4 == 2 and (not self.released or frame - 2 < frames - 4)
        return frame - 2 if thinned else None

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        frames, number = features.shape[:2]
        keep = int((1 - self.removed) * number)
        kept = []
        for frame in range(frames - (frames % 2 if self.released and frames > 1 else 0)):
            other = self.against(frame, frames)
            inside = torch.arange(number, device=features.device)
            if other is not None:
                alike = F.cosine_similarity(features[frame].float(), features[other].float(), dim=1)
                inside = alike.argsort(stable=True)[:keep]
            kept.append(inside + frame * number)
        return Reduced.picked(features, torch.cat(kept), grid)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int]:
        number = grid[0] * grid[1]
        keep = int((1 - self.removed) * number)
        counts = [number if self.against(frame, frames) is None else keep for frame in range(frames)]
        return [*counts[:-1], 0] if self.released and frames % 2 and frames > 1 else counts
