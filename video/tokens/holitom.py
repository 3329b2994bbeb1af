"""HoliTom's outer stage: windows of frames are chosen by dynamic programming so that most is static, and what is left is merged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .base import Reduced, Reducer, Seen, check_positive, check_share
from .density_peaks import density_peaks

_Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # tokens [n, D], flat places [n], weights [n]


@dataclass(frozen=True)
class HoliTom(Reducer):
    """Windows that maximise static places x frames saved (`static_windows`); a place is static in a window where all its neighbouring
    frames have a cosine above tau, and is kept once, as their mean. Of a film's tokens the share `keep` is to stay, so of the rest
    keep / (share not saved): of each frame's dynamic tokens the most attended to, but for the share `contextual` of them, which are centres
    of density peaks, as are static ones; a centre is beta of itself and 1 - beta of the mean of the tokens nearest to it
    [R: cokeshao/HoliTom holitom/llava_arch.py and its defaults]. Without attention all are centres.

    Its inner stage, inside the language model, is not part of this.
    """

    keep: float = 0.1
    tau: float = 0.8
    contextual: float = 0.0
    beta: float = 0.6
    neighbours: int = 7
    longest: int = 1024

    def __post_init__(self) -> None:
        check_share(keep=self.keep, contextual=self.contextual, beta=self.beta)
        check_positive(neighbours=self.neighbours, longest=self.longest)

    @property
    def uses(self) -> tuple[str, ...]:
        return ("attention",)

    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        frames, number = features.shape[:2]
        unit = F.normalize(features.detach().float(), dim=-1)
        alike = (unit[:-1] * unit[1:]).sum(-1)  # [T - 1, N]
        windows, saved = static_windows(alike > self.tau, self.longest)
        share = min(self.keep / (1 - saved / (frames * number)), 1.0)
        parts: list[_Part] = []
        for first, end in windows:
            static = (alike[first : end - 1] > self.tau).all(0) & (end - first > 1)
            parts += self._window(features[first:end], None if seen.attention is None else seen.attention[first:end], static, first, share)
        x, places, weight = (torch.cat([part[i] for part in parts]) for i in range(3))
        return Reduced.of(x, places, weight, grid)

    def _window(
        self, features: torch.Tensor, attention: torch.Tensor | None, static: torch.Tensor, first: int, share: float
    ) -> list[_Part]:
        number = features.shape[1]
        inside, moving = static.nonzero()[:, 0], (~static).nonzero()[:, 0]
        parts = [self._centred(features[:, inside].mean(0), inside + first * number, round(len(inside) * share), float(len(features)))]
        for frame, tokens in enumerate(features[:, moving]):
            attended = None if attention is None else attention[frame, moving]
            parts += self._frame(tokens, attended, moving + (first + frame) * number, share)
        return parts

    def _frame(self, tokens: torch.Tensor, attention: torch.Tensor | None, places: torch.Tensor, share: float) -> list[_Part]:
        wanted = math.ceil(len(tokens) * share)
        contextual = wanted if attention is None else wanted - round(wanted * (1 - self.contextual))
        best = (torch.zeros(len(tokens), device=tokens.device) if attention is None else attention).argsort(descending=True, stable=True)
        top, rest = best[: wanted - contextual].sort().values, best[wanted - contextual :].sort().values
        ones = torch.ones(len(top), device=tokens.device)
        return [(tokens[top], places[top], ones), self._centred(tokens[rest], places[rest], contextual, 1.0)]

    def _centred(self, tokens: torch.Tensor, places: torch.Tensor, count: int, each: float) -> _Part:
        """`count` centres of tokens [n, D], the others merged into them; none of none."""
        if not count:
            return tokens[:0], places[:0], torch.zeros(0, device=tokens.device)
        peaks = density_peaks(tokens[None], min(self.neighbours, count))
        centres = peaks.centres(count).sort(dim=1).values
        return (*_blended(tokens, peaks.assigned(centres)[0], centres[0], places, self.beta, each),)

    def tokens_out(self, frames: int, grid: tuple[int, int]) -> None:
        return None


def _blended(tokens: torch.Tensor, assigned: torch.Tensor, centres: torch.Tensor, places: torch.Tensor, beta: float, each: float) -> _Part:
    """beta x centre + (1 - beta) x mean of what is assigned to it; a centre alone stays itself."""
    others = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device).scatter(0, centres, False)
    sums = torch.zeros(len(centres), tokens.shape[1], dtype=tokens.dtype, device=tokens.device).index_add(
        0, assigned[others], tokens[others]
    )
    sizes = torch.bincount(assigned[others], minlength=len(centres))
    means = sums / sizes.clamp(min=1)[:, None]
    alone = (sizes == 0)[:, None]
    blended = torch.where(alone, tokens[centres], beta * tokens[centres] + (1 - beta) * means)
    return blended, places[centres], (1 + sizes) * each


def static_windows(still: torch.Tensor, longest: int) -> tuple[list[tuple[int, int]], int]:
    """First and end of the windows that cover the film, and how many tokens they save.

    still: bool [T - 1, N], whether a place looks the same in a frame and the next. A window of w frames with s places that are still
    throughout saves s (w - 1) tokens; the sum over windows of at most `longest` frames is the largest there is.
    """
    frames = len(still) + 1
    saved = [[0] * (frames + 1) for _ in range(frames)]  # of the window first .. end - 1
    for first in range(frames):
        throughout = torch.cumprod(still[first : first + longest - 1].to(torch.uint8), 0).sum(1).tolist()
        for more, places in enumerate(throughout, 1):
            saved[first][first + more + 1] = places * more
    best, back = [0] * (frames + 1), list(range(-1, frames))
    for end in range(1, frames + 1):
        best[end], back[end] = best[end - 1], end - 1
        for first in range(end - 2, max(end - longest, 0) - 1, -1):  # short windows first: a longer one must save more
            if best[first] + saved[first][end] > best[end]:
                best[end], back[end] = best[first] + saved[first][end], first
    windows, end = [], frames
    while end:
        windows.append((back[end], end))
        end = back[end]
    return windows[::-1], best[frames]
