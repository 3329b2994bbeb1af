"""A guard that looks at the picture: a rewrite may be less like it than the raw caption is by so much and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import PIL.Image

from ..records import Sample, Verdict

ScorePairs = Callable[[Sequence[PIL.Image.Image], Sequence[str]], Sequence[float]]
FELL = "similarity_fell"  # flag of a refused rewrite, with the fall


@dataclass(frozen=True, slots=True)
class SimilarityGuard:
    """`score(pictures, texts)`: how like each pair is, higher for more; `max_drop` on its scale. This toolkit's choice.

    A blank caption says nothing that a rewrite could be less like than: its rewrite passes.
    """

    score: ScorePairs
    max_drop: float

    def __call__(self, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts; a rewrite whose similarity falls by more than `max_drop` keeps the raw caption, by reason `guard:similarity`."""
        falls = self._falls(samples, verdicts)
        return [_refused(verdict, falls[i]) if falls.get(i, 0.0) > self.max_drop else verdict for i, verdict in enumerate(verdicts)]

    def _falls(self, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> Mapping[int, float]:
        """By row: the raw caption's similarity less the rewrite's."""
        asked = [i for i, verdict in enumerate(verdicts) if verdict.action == "rewrite" and (samples[i].caption or "").strip()]
        if not asked:
            return {}
        pictures = [_picture(samples[i]) for i in asked]
        texts = [*(samples[i].caption or "" for i in asked), *(verdicts[i].text or "" for i in asked)]
        told = self.score([*pictures, *pictures], texts)
        return {i: float(told[k]) - float(told[len(asked) + k]) for k, i in enumerate(asked)}


def _picture(sample: Sample) -> PIL.Image.Image:
    """Raises ValueError for a sample whose picture nobody decoded: a rewrite cannot be compared with it."""
    pixels = sample.images[0].pixels
    if pixels is None:
        raise ValueError(f"the picture of sample {sample.id!r} is not decoded, so its captions cannot be compared with it")
    return pixels


def _refused(verdict: Verdict, fall: float) -> Verdict:
    return replace(verdict, action="keep", text=None, reason="guard:similarity", flags=(*verdict.flags, f"{FELL}:{fall:.4f}"))
