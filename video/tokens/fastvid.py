"""FastVID: a film is cut where frames change; attended tokens stay, and in frames at even distances centres take in the segment's rest."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_positive, check_share
from .density_peaks import density_peaks

_Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # tokens [n, D], flat places [n], weights [n]


@dataclass(frozen=True)
class FastVid(Reducer):
    """Segments: cuts at the `cuts` - 1 lowest cosines of neighbouring frames' vectors and at all below `tau`. A frame has m = int(N keep)
    tokens: the m - int(m context) most attended, and int(m context) for each frame of its segment in centres by density peaks, which lie
    in the segment's last frame and every `every`-th before it. A centre takes in the tokens of its segment (all but the attended) whose
    cosine to it is the highest of that frame's centres, with weight max(1 / (1 + number), beta) for itself
    [R: LunarShen/FastVID llava modeling_qwen2.py and its defaults; its attention is that of SigLIP's pooling head].

    pooled: frames' vectors, the mean of their tokens where none are given. Equal densities part by place; the source adds noise.
    """

    keep: float = 0.1
    cuts: int = 8
    tau: float = 0.9
    context: float = 0.4
    every: int = 4
    beta: float = 0.6
    neighbours: int = 4

    def __post_init__(self) -> None:
        check_share(keep=self.keep, context=self.context, beta=self.beta)
        check_positive(cuts=self.cuts, every=self.every, neighbours=self.neighbours)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("attention",)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        assert seen.attention is not None  # `needs`
        frames, number = features.shape[:2]
        wanted = max(int(number * self.keep), 1)
        central = int(wanted * self.context)
        order = seen.attention.float().argsort(dim=1, descending=True, stable=True)
        top, rest = order[:, : wanted - central], order[:, wanted - central :].sort(1).values
        base = torch.arange(frames, device=features.device)[:, None] * number
        attended = features.gather(1, top[..., None].expand(-1, -1, features.shape[2])).flatten(0, 1)
        parts: list[_Part] = [(attended, (top + base).flatten(), torch.ones(top.numel(), device=features.device))]
        left = features.gather(1, rest[..., None].expand(-1, -1, features.shape[2]))  # [T, n, D]
        if central and left.shape[1]:
            score = density_peaks(left, self.neighbours).score
            for first, end in self.segments(features.mean(1) if seen.pooled is None else seen.pooled):
                parts += self._segment(left[first:end], score[first:end], (rest + base)[first:end], central)
        x, places, weight = (torch.cat([part[i] for part in parts]) for i in range(3))
        return Reduced.of(x, places, weight, grid)

    @torch.no_grad()
    def segments(self, pooled: torch.Tensor) -> list[tuple[int, int]]:
        """First and end of each segment of frames [T, d]."""
        unit = F.normalize(pooled.float(), dim=1)
        alike = (unit[:-1] * unit[1:]).sum(1)
        lowest = alike.argsort(stable=True)[: self.cuts - 1].tolist()
        cuts = sorted({*lowest, *(alike < self.tau).nonzero()[:, 0].tolist()})
        edges = [0, *(cut + 1 for cut in cuts), len(pooled)]
        return list(itertools.pairwise(edges))

    def _segment(self, tokens: torch.Tensor, score: torch.Tensor, places: torch.Tensor, central: int) -> list[_Part]:
        """Merged centres of a segment's tokens [w, n, D]."""
        length = len(tokens)
        anchors = [frame for frame in range(length) if (length - 1 - frame) % self.every == 0]
        count = min(central * length // len(anchors), tokens.shape[1])
        pool = tokens.flatten(0, 1)
        unit = F.normalize(pool, dim=-1)
        parts = []
        for frame in anchors:
            chosen = score[frame].argsort(descending=True, stable=True)[:count]
            centres = tokens[frame, chosen]
            with torch.no_grad():
                into = (unit @ F.normalize(centres, dim=-1).T).argmax(1)
            sizes = torch.bincount(into, minlength=count)
            means = torch.zeros_like(centres).index_add(0, into, pool) / sizes.clamp(min=1)[:, None]
            own = (1 / (sizes + 1)).clamp(min=self.beta)[:, None].to(centres.dtype)
            parts.append((own * centres + (1 - own) * means, places[frame, chosen], sizes.float()))
        return parts

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> None:
        return None
