"""LLaVA-PruMerge: tokens with unusual attention stay, and take in those whose keys are most like theirs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Reduced, Reducer, Seen, check_positive


@dataclass(frozen=True)
class PruMerge(Reducer):
    """Of each frame as many of the most attended tokens as lie above the third quartile plus 1.5 times the distance of quartiles, or
    `keep`; `plus` adds an even grid, three times as dense as they are. To each come the `neighbours` tokens with the most alike keys,
    weighed by attention; one more token is all the others so weighed
    [R: 42Shawn/LLaVA-PruMerge llava/model/multimodal_encoder/clip_encoder.py; the class token's attention in the last layer, keys of it].

    Weighed sums are divided by their weights, the token itself counting 1; `released` leaves that away, as the source does, where tokens
    grow with their neighbours. At least one token stays; the one more is placed where its most attended token lies.
    """

    keep: int | None = None
    plus: bool = False
    neighbours: int = 32
    released: bool = False

    def __post_init__(self) -> None:
        check_positive(neighbours=self.neighbours, keep=1 if self.keep is None else self.keep)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("attention",)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        assert seen.attention is not None  # `needs`
        number = features.shape[1]
        keys = features if seen.keys is None else seen.keys
        parts = [
            self._frame(frame, attention, key.detach().float(), i * number)
            for i, (frame, attention, key) in enumerate(zip(features, seen.attention.to(features.dtype), keys, strict=True))
        ]
        x, places, weight = (torch.cat([part[i] for part in parts]) for i in range(3))
        return Reduced.of(x, places, weight, grid)

    def _frame(
        self, tokens: torch.Tensor, attention: torch.Tensor, keys: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chosen = self._chosen(attention)
        unit = keys / keys.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        alike = unit[chosen] @ unit.T
        alike[torch.arange(len(chosen)), chosen] = -torch.inf  # a token is no neighbour of its own
        near = alike.topk(min(self.neighbours, len(tokens) - 1), dim=1).indices  # [n, neighbours]
        taken = (tokens[near] * attention[near][..., None]).sum(1)
        merged = tokens[chosen] + taken
        if not self.released:
            merged = merged / (1 + attention[near].sum(1, keepdim=True))
        weight = torch.full((len(chosen),), 1.0 + near.shape[1], device=tokens.device)
        rest = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device).scatter(0, chosen, False).nonzero()[:, 0]
        if not len(rest):
            return merged, chosen + first, weight
        extra = (tokens[rest] * attention[rest][:, None]).sum(0, keepdim=True)
        extra = extra if self.released else extra / attention[rest].sum().clamp(min=1e-12)
        place = rest[attention[rest].argmax()][None]
        return torch.cat([merged, extra]), torch.cat([chosen, place]) + first, torch.cat([weight, weight.new_tensor([float(len(rest))])])

    def _chosen(self, attention: torch.Tensor) -> torch.Tensor:
        number, scores = len(attention), attention.detach().float()
        count = self.keep
        if count is None:
            low, high = (torch.quantile(scores, q) for q in (0.25, 0.75))
            count = int((scores > high + 1.5 * (high - low)).sum())
        count = min(max(count, 1), number)
        chosen = scores.argsort(descending=True, stable=True)[:count]
        if not self.plus:
            return chosen
        step = max(int(int(1 / (count / number)) / 3), 1)
        even = torch.arange(0, number - 1, step, device=attention.device)
        return torch.cat([chosen, even[~torch.isin(even, chosen)]])

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int] | None:
        if self.keep is None or self.plus:
            return None
        number = grid[0] * grid[1]
        return [min(self.keep + 1, number)] * frames
