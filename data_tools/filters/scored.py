"""Filters that tell one number of a picture, by a model that comes in as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import PIL.Image

from ..records import Sample
from .base import Need, Signals, narrowed

DECIMALS = 6
ScorePictures = Callable[[Sequence[PIL.Image.Image]], Sequence[float]]


class ScoredPicture:
    """One signal: what `score` says of a sample's first picture, rounded to six decimals; None without a decoded one."""

    kinds: dict[str, type] = {}
    needs: frozenset[Need] = frozenset({"pixels"})
    side = 0  # the model's own preprocessing makes pictures smaller

    def __init__(self, score: ScorePictures, names: Sequence[str] = ()) -> None:
        self.score = score
        self.names = narrowed(self.kinds, names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        pictures = {i: s.images[0].pixels for i, s in enumerate(samples) if s.images and s.images[0].pixels is not None}
        scores = self.score([p for p in pictures.values() if p is not None]) if pictures else ()
        told = dict(zip(pictures, scores, strict=True))
        return [{self.names[0]: None if i not in told else round(float(told[i]), DECIMALS)} for i in range(len(samples))]
