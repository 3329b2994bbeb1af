"""How like a picture and its caption are, by an encoder pair that comes in as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import PIL.Image

from ..records import Sample
from .base import Need, Signals, narrowed

DECIMALS = 6
ScorePairs = Callable[[Sequence[PIL.Image.Image], Sequence[str]], Sequence[float]]


class SimilarityFilter:
    """`similarity.cosine`: what `score` says of a sample's first picture and its caption, rounded to six decimals; None without a
    decoded picture, or where the caption is blank: nothing is said that could be like a picture (this toolkit's choice)."""

    kinds: dict[str, type] = {"similarity.cosine": float}
    needs: frozenset[Need] = frozenset({"pixels", "caption"})
    side = 0  # the encoder's own preprocessing makes pictures smaller

    def __init__(self, score: ScorePairs, names: Sequence[str] = ()) -> None:
        self.score = score
        self.names = narrowed(self.kinds, names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        pairs = {i: (pixels, sample.caption or "") for i, sample in enumerate(samples) if (pixels := _shown(sample)) is not None}
        scores = self.score([p for p, _ in pairs.values()], [c for _, c in pairs.values()]) if pairs else ()
        told = dict(zip(pairs, scores, strict=True))
        return [{self.names[0]: None if i not in told else round(float(told[i]), DECIMALS)} for i in range(len(samples))]


def _shown(sample: Sample) -> PIL.Image.Image | None:
    """The picture of a sample that says something of it."""
    return sample.images[0].pixels if sample.images and (sample.caption or "").strip() else None
