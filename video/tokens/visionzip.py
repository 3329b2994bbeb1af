"""VisionZip: the tokens a tower attends to most stay, the others are merged into evenly taken ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Reduced, Reducer, Seen, check_positive


@dataclass(frozen=True)
class VisionZip(Reducer):
    """Of each frame the `dominant` most attended tokens; of the rest, every n-th as a centre, `contextual` of them, and every other added
    to the centre with the most alike key (cosine)
    [R: dvlab-research/VisionZip visionzip/clip_encoder.py; 54 and 10 of CLIP's 576, its class token aside].

    A centre becomes the mean of itself and what joins it; `released`: itself plus the mean of what joins it, as in the source, which
    makes it about twice as large. Without keys tokens are compared by their features. A frame of fewer tokens keeps them all.
    """

    dominant: int = 54
    contextual: int = 10
    released: bool = False

    def __post_init__(self) -> None:
        check_positive(dominant=self.dominant, contextual=self.contextual)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("attention",)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        assert seen.attention is not None  # `needs`
        number = features.shape[1]
        keys = features if seen.keys is None else seen.keys
        parts = [
            self._frame(frame, attention, key.detach().float(), i * number)
            for i, (frame, attention, key) in enumerate(zip(features, seen.attention, keys, strict=True))
        ]
        x, places, weight = (torch.cat([part[i] for part in parts]) for i in range(3))
        return Reduced.of(x, places, weight, grid)

    def _frame(
        self, tokens: torch.Tensor, attention: torch.Tensor, keys: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        best = attention.argsort(descending=True, stable=True)
        top, rest = best[: self.dominant], best[self.dominant :].sort().values
        ones = torch.ones(len(top), device=tokens.device)
        if not len(rest):
            return tokens[top], top + first, ones
        step = max(1, len(rest) // self.contextual)
        chosen = torch.arange(0, len(rest), step, device=tokens.device)[: self.contextual]
        others = torch.ones(len(rest), dtype=torch.bool, device=tokens.device).scatter(0, chosen, False)
        unit = keys[rest] / keys[rest].norm(dim=-1, keepdim=True).clamp(min=1e-12)
        into = (unit[others] @ unit[chosen].T).argmax(1)
        sums = torch.zeros_like(tokens[chosen]).index_add(0, into, tokens[rest][others])
        sizes = torch.bincount(into, minlength=len(chosen))[:, None]
        centres = tokens[rest[chosen]]
        merged = centres + sums / sizes.clamp(min=1) if self.released else (centres + sums) / (1 + sizes)
        return torch.cat([tokens[top], merged]), torch.cat([top, rest[chosen]]) + first, torch.cat([ones, 1 + sizes[:, 0]])

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int]:
        return [min(self.dominant + self.contextual, grid[0] * grid[1])] * frames
