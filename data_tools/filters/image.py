"""What a picture is like, told without a model: size and shape, sharpness, how much is in it, and how many frames it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image

from ..records import Image, Sample
from .base import Need, Signals, Value, narrowed
from .frames import count_frames

KINDS: dict[str, type] = {
    "image.width": int,
    "image.height": int,
    "image.aspect": float,
    "image.bytes": int,
    "image.sharpness": float,
    "image.entropy": float,
    "image.contrast": float,
    "image.constant": float,
    "image.frames": int,
    "image.distinct_frames": int,
}
NEEDS: Mapping[str, Need] = {
    **dict.fromkeys(("image.width", "image.height", "image.aspect"), "size"),
    **dict.fromkeys(("image.bytes", "image.frames", "image.distinct_frames"), "bytes"),
    **dict.fromkeys(("image.sharpness", "image.entropy", "image.contrast", "image.constant"), "pixels"),
}
NEAR = 2  # grey levels to either side of the commonest one that count as the same


class ImageSignals:
    """Of a sample's first picture, upright.

    `image.width`, `image.height` in pixels; `image.aspect`: longer side over shorter; `image.bytes`: as encoded.
    Of the grey picture shrunk to at most 256 pixels a side, so that pictures of different sizes compare: `image.sharpness`, the variance of
    its Laplacian (low: blurred); `image.entropy` of its grey levels in bits, 0 to 8; `image.contrast`, their standard deviation;
    `image.constant`, the share of pixels within 2 levels of the commonest (1: nothing to see).
    `image.frames` of an animated or many-paged file and `image.distinct_frames`, how many of them differ (see `frames`); 1 for others.
    """

    kinds = KINDS
    side = 256
    grey = True

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = narrowed(KINDS, names)
        self.needs = frozenset(NEEDS[name] for name in self.names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        return [self._of(sample.images[0]) if sample.images else dict.fromkeys(self.names) for sample in samples]

    def _of(self, image: Image) -> Signals:
        told: dict[str, Value] = {}
        if "size" in self.needs:
            told |= _shape(image)
        if "bytes" in self.needs and image.data is not None:
            told["image.bytes"] = len(image.data)
            if not self._frames.isdisjoint(self.names):
                told |= dict(zip(("image.frames", "image.distinct_frames"), count_frames(image.data), strict=True))
        if "pixels" in self.needs and image.pixels is not None:
            told |= _content(image.pixels, self.side)
        return {name: told.get(name) for name in self.names}

    _frames = frozenset({"image.frames", "image.distinct_frames"})


def _shape(image: Image) -> dict[str, Value]:
    size = image.size or (image.pixels.size if image.pixels is not None else None)
    if size is None:
        return {}
    width, height = size
    return {"image.width": width, "image.height": height, "image.aspect": round(max(size) / min(size), 4)}


def _content(pixels: PIL.Image.Image, side: int) -> dict[str, Value]:
    grey = pixels.convert("L")
    if max(grey.size) > side:
        grey.thumbnail((side, side), reducing_gap=2.0)
    counts = np.asarray(grey.histogram(), np.float64)
    shares = counts / counts.sum()
    present = shares[shares > 0]
    near = np.convolve(shares, np.ones(2 * NEAR + 1), "same")[shares.argmax()]
    levels = np.arange(256)
    mean = shares @ levels
    return {
        "image.sharpness": round(_laplacian_variance(np.asarray(grey, np.int16)), 3),
        "image.entropy": round(max(0.0, float(-(present * np.log2(present)).sum())), 4),
        "image.contrast": round(float(np.sqrt(max(0.0, shares @ (levels - mean) ** 2))), 3),
        "image.constant": round(min(1.0, float(near)), 4),
    }


def _laplacian_variance(grey: np.ndarray) -> float:
    """Variance of the four-neighbour Laplacian inside the border; 0 for pictures too small to have an inside."""
    if min(grey.shape) < 3:
        return 0.0
    inside = grey[1:-1, 1:-1]
    laplacian = 4 * inside - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]  # within +-1020: int16 holds it
    return float(laplacian.var(dtype=np.float32))
