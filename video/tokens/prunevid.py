"""PruneVid's first stage: what stays the same over a scene is kept once, and alike tokens of a frame are merged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_positive, check_share
from .density_peaks import cluster_means, density_peaks


@dataclass(frozen=True)
class PruneVid(Reducer):
    """Frame means are clustered into int(T segments) scenes by density peaks, made contiguous (`scenes`). In a scene a place whose tokens
    are alike (mean pairwise cosine above tau) becomes one token, their mean. Static tokens of a scene, and dynamic ones of each frame,
    are clustered to the share `clusters` where there are more than `small`
    [R: Visual-AI/PruneVid models/pllava/modeling_pllava.py, merge_frames_dynamic; tau 0.8, segments 0.25, clusters 0.5, small 14].

    A scene of one frame is dynamic throughout. Its second stage, inside the language model, is not part of this.
    """

    tau: float = 0.8
    segments: float = 0.25
    clusters: float = 0.5
    neighbours: int = 7
    small: int = 14

    def __post_init__(self) -> None:
        check_share(segments=self.segments, clusters=self.clusters)
        check_positive(neighbours=self.neighbours, small=self.small)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        number, parts = features.shape[1], []
        for first, end in scenes(features.mean(1), max(int(len(features) * self.segments), 1), self.neighbours):
            static = self._static(features[first:end])
            inside = static.nonzero()[:, 0]
            parts.append(
                self._clustered(features[first:end, static].mean(0), inside + first * number, torch.full(inside.shape, end - first))
            )
            moving = (~static).nonzero()[:, 0]
            parts += [
                self._clustered(features[frame, moving], moving + frame * number, torch.ones(moving.shape)) for frame in range(first, end)
            ]
        x, places, weight = (torch.cat([part[i] for part in parts]) for i in range(3))
        return Reduced.of(x, places, weight, grid)

    @torch.no_grad()
    def _static(self, frames: torch.Tensor) -> torch.Tensor:
        """[N] bool of a scene [W, N, D]."""
        count = len(frames)
        if count == 1:
            return torch.zeros(frames.shape[1], dtype=torch.bool, device=frames.device)
        unit = F.normalize(frames.float(), dim=-1)
        alike = torch.einsum("wnc,tnc->wtn", unit, unit).sum((0, 1))
        return (alike - count) / (count * (count - 1)) > self.tau

    def _clustered(
        self, tokens: torch.Tensor, places: torch.Tensor, sizes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Means, places of centres and weights of tokens [n, D]; few of them stay as they are."""
        sizes = sizes.to(tokens.device)
        if len(tokens) <= self.small:
            return tokens, places, sizes
        count = max(int(len(tokens) * self.clusters), 1)
        peaks = density_peaks(tokens[None], self.neighbours)
        centres = peaks.centres(count)
        means, members = cluster_means(tokens[None], peaks.assigned(centres), count)
        return means[0], places[centres[0]], members[0] * sizes[0]

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> None:
        return None


def scenes(frames: torch.Tensor, count: int, neighbours: int) -> list[tuple[int, int]]:
    """First and end of contiguous scenes of frames [T, D], clustered into `count`: of each cluster its longest run stays, runs of one
    frame dissolve, and what is left joins the longer neighbour, the earlier where both are equal."""
    peaks = density_peaks(frames[None], neighbours)
    labels = peaks.assigned(peaks.centres(count))[0].tolist()
    runs = _runs(labels)
    longest: dict[int, int] = {}
    for first, end in runs:
        longest[labels[first]] = max(longest.get(labels[first], 0), end - first)
    kept: list[int | None] = [label if longest[label] > 1 else None for label in labels]
    for first, end in runs:
        if end - first < longest[labels[first]]:
            kept[first:end] = [None] * (end - first)
    return _runs(_joined(kept))


def _runs(labels: Sequence[int | None]) -> list[tuple[int, int]]:
    edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    return list(itertools.pairwise(edges))


def _joined(labels: list[int | None]) -> list[int | None]:
    """Each stretch of None takes the label of the longer neighbouring run; 0 where there is none."""
    labels = list(labels)
    for first, end in _runs(labels):
        if labels[first] is None:
            runs = _runs(labels)  # earlier stretches have their labels by now
            at = runs.index((first, end))
            left = runs[at - 1] if at else (0, 0)
            right = runs[at + 1] if at + 1 < len(runs) else (0, 0)
            longer = left if left[1] - left[0] >= right[1] - right[0] else right
            labels[first:end] = [labels[longer[0]] if longer[1] else 0] * (end - first)
    return labels
