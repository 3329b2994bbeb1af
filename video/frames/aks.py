"""AKS, adaptive keyframe sampling (arXiv 2502.21271): the film is halved until its parts are plain, and the best of each part taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import best_first
from .candidates import Candidates


class _Part(NamedTuple):
    """The candidates first .. end - 1, how many frames they are to give, and how often the film was halved for them."""

    first: int
    end: int
    quota: int
    depth: int


def aks(candidates: Candidates, n: int, *, peak: float = 0.8, spread: float = -100.0, depth: int = 5) -> np.ndarray:
    """Scores are brought to [0, 1]. A part whose n best are on average more than `peak` above its mean, with a standard deviation above
    `spread`, stays whole; another is halved, at most `depth` times; of each part its best frames are taken
    [R: ncTimTang/AKS frame_select.py; its t1, t2, all_depth].

    The source gives a part int(n / 2^depth) frames, so it returns fewer than n where n is no multiple of that (none at all for n below
    32). Here a quota is halved with its part: the odd frame goes to the half with the better best score, and what a half cannot fill to
    the other. Where the source's quotas are whole the choice is the same. Equal scores give no NaN, and frames evenly over the film.
    """
    scores = _scaled(candidates.scores())
    parts, kept = [_Part(0, len(scores), n, 0)], []
    while parts:
        part = parts.pop()
        if part.depth < depth and part.end - part.first > 1 and not _is_peaked(scores[part.first : part.end], n, peak, spread):
            parts += _halves(part, scores)
        else:
            kept.append(part.first + best_first(scores[part.first : part.end])[: part.quota])
    return np.concatenate(kept)


def _scaled(scores: np.ndarray) -> np.ndarray:
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


def _is_peaked(scores: np.ndarray, n: int, peak: float, spread: float) -> bool:
    return bool(np.sort(scores)[-n:].mean() - scores.mean() > peak and scores.std() > spread)


def _halves(part: _Part, scores: np.ndarray) -> list[_Part]:
    middle = part.first + (part.end - part.first) // 2
    left, right = middle - part.first, part.end - middle
    odd = part.quota % 2 and scores[part.first : middle].max() >= scores[middle : part.end].max()
    wanted = part.quota // 2 + int(bool(odd))
    of_left = min(max(wanted, part.quota - right), left)
    return [_Part(part.first, middle, of_left, part.depth + 1), _Part(middle, part.end, part.quota - of_left, part.depth + 1)]
