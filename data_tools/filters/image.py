"""What a picture is like, told without a model: its size and shape."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import Sample
from .base import Need, Signals, Value, narrowed

KINDS: dict[str, type] = {"image.width": int, "image.height": int, "image.aspect": float}


class ImageSignals:
    """Of a sample's first picture, upright: `image.width` and `image.height` in pixels, `image.aspect` = longer side over shorter."""

    kinds = KINDS
    needs: frozenset[Need] = frozenset({"size"})

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = narrowed(KINDS, names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        return [self._of(sample) for sample in samples]

    def _of(self, sample: Sample) -> Signals:
        picture = sample.images[0] if sample.images else None
        size = picture and (picture.size or (picture.pixels and picture.pixels.size))
        if not size:
            return dict.fromkeys(self.names)
        width, height = size
        told: dict[str, Value] = {"image.width": width, "image.height": height}
        told["image.aspect"] = round(max(width, height) / min(width, height), 4)
        return {name: told[name] for name in self.names}
