"""ToMe, token merging: the most alike tokens become one, in rounds of at most half of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from .base import Reduced, Reducer, Seen, check_positive


class _Tokens(NamedTuple):
    """x [B, n, D], what they are matched by [B, n, d], sizes [B, n], flat places [B, n]."""

    x: torch.Tensor
    metric: torch.Tensor
    size: torch.Tensor
    place: torch.Tensor


@dataclass(frozen=True)
class ToMe(Reducer):
    """Brings the tokens of every `group` frames down to `keep` by bipartite soft matching (arXiv 2210.09461): tokens at even places are
    matched with their most alike at odd ones, the best r pairs merged by a mean weighed by size, in as many rounds as are needed
    [R: facebookresearch/ToMe tome/merge.py; rounds and groups of 4 frames as OpenGVLab/VideoChat-Flash merges].

    by "features" (with `heads`: the mean of their slices, as VideoChat-Flash does) or "keys" of the tower. What is merged lies where the
    token lies that took it in. A last group of fewer frames keeps its share.
    """

    keep: int = 16
    group: int = 1
    heads: int = 1
    by: Literal["features", "keys"] = "features"

    def __post_init__(self) -> None:
        check_positive(keep=self.keep, group=self.group, heads=self.heads)
        if self.by not in ("features", "keys"):
            raise ValueError(f"by is 'features' or 'keys', got {self.by!r}")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("keys",) if self.by == "keys" else ()

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        metric = self._sliced(features) if self.by == "features" else seen.keys
        assert metric is not None  # `needs`
        places = torch.arange(features.shape[0] * features.shape[1], device=features.device).view(features.shape[:2])
        whole = len(features) // self.group * self.group
        parts = [slice(0, whole), slice(whole, len(features))]
        merged = [self._merged(features[p], metric[p], places[p], min(p.stop - p.start, self.group)) for p in parts if p.stop > p.start]
        x, weight, place = (torch.cat([getattr(m, name).flatten(0, 1) for m in merged]) for name in ("x", "size", "place"))
        return Reduced.of(x, place, weight, grid)

    def _merged(self, features: torch.Tensor, metric: torch.Tensor, places: torch.Tensor, group: int) -> _Tokens:
        def joined(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.unflatten(0, (-1, group)).flatten(1, 2)  # [B, group x N, ...]

        tokens = _Tokens(joined(features), joined(metric), torch.ones_like(joined(places), dtype=features.dtype), joined(places))
        target = max(-(-self.keep * group // self.group), 1)
        while (left := tokens.x.shape[1]) > target:
            tokens = merge(tokens, min(left - target, left // 2))
            if self.by == "features":
                tokens = tokens._replace(metric=self._sliced(tokens.x))
        return tokens

    def _sliced(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % self.heads:
            raise ValueError(f"features of width {x.shape[-1]} cannot be cut into {self.heads} heads")
        return x.unflatten(-1, (self.heads, -1)).mean(-2)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int] | None:
        return [min(self.keep, grid[0] * grid[1])] * frames if self.group == 1 else None


def merge(tokens: _Tokens, r: int) -> _Tokens:
    """One round: r tokens at even places go into those at odd places that they are most like; the unmerged come first, then the odd."""
    with torch.no_grad():
        unit = tokens.metric / tokens.metric.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        nearest = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(-1)  # of each even token
        order = nearest.values.argsort(dim=-1, descending=True, stable=True)
        goes, stays = order[:, :r], order[:, r:]
        into = nearest.indices.gather(1, goes)

    def summed(values: torch.Tensor) -> torch.Tensor:
        even, odd = values[:, ::2], values[:, 1::2]
        rest = even.gather(1, stays[..., None].expand(-1, -1, values.shape[-1]))
        moved = even.gather(1, goes[..., None].expand(-1, -1, values.shape[-1]))
        return torch.cat([rest, odd.scatter_add(1, into[..., None].expand_as(moved), moved)], 1)

    size = summed(tokens.size[..., None])
    place = torch.cat([tokens.place[:, ::2].gather(1, stays), tokens.place[:, 1::2]], 1)
    x, metric = (summed(values * tokens.size[..., None]) / size for values in (tokens.x, tokens.metric))
    return _Tokens(x, metric, size[..., 0], place)
