"""Pictures made worse, for terms that compare an answer under the real picture with the same answer under another one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image

from vision.images import SquareImageProcessor

CROPPED_AREA = (0.01, 0.2)  # share of the picture that is left, as mDPO's released code draws it
NOISE_STEP, NOISE_STEPS = 500, 1000

Way = Callable[[PIL.Image.Image, SquareImageProcessor, np.random.Generator], np.ndarray]  # -> float32 [3, S, S]


class Corruption(NamedTuple):
    """A way of CORRUPTIONS. What it makes of a picture depends on the picture and the seed alone, not on batch or order."""

    kind: str
    seed: int

    def pixels(self, pictures: Sequence[PIL.Image.Image | None], processor: SquareImageProcessor) -> np.ndarray:
        """Decoded pictures -> what a tower reads of each made worse, float32 [n, 3, S, S]."""
        return np.stack([self._one(picture, processor) for picture in pictures if picture is not None])

    def _one(self, picture: PIL.Image.Image, processor: SquareImageProcessor) -> np.ndarray:
        digest = hashlib.sha256(f"{self.seed} {self.kind} {picture.size}".encode() + picture.tobytes()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        return CORRUPTIONS[self.kind](picture, processor, rng)


def crop(picture: PIL.Image.Image, processor: SquareImageProcessor, rng: np.random.Generator) -> np.ndarray:
    """A window of 1 to 20 % of the picture's area, of its own proportions, at a random place (mDPO, arXiv 2406.11839)."""
    scale = float(np.sqrt(rng.uniform(*CROPPED_AREA)))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    left, top = (int(rng.integers(0, side - part + 1)) for side, part in zip(picture.size, (width, height), strict=True))
    return processor.pixels([picture.crop((left, top, left + width, top + height))])[0]


def noise(picture: PIL.Image.Image, processor: SquareImageProcessor, rng: np.random.Generator) -> np.ndarray:
    """sqrt(a) x + sqrt(1 - a) e on the tower's input x, a the share of signal after 500 of 1000 diffusion steps.

    The schedule is VCD's (arXiv 2311.16922), which CHiP uses: beta_t = s(-6 ... 6) (0.5e-2 - 1e-5) + 1e-5, s the logistic function.
    """
    betas = (0.5e-2 - 1e-5) / (1 + np.exp(-np.linspace(-6, 6, NOISE_STEPS))) + 1e-5
    kept = np.cumprod(1 - betas)[NOISE_STEP]
    clear = processor.pixels([picture])[0]
    return (np.sqrt(kept) * clear + np.sqrt(1 - kept) * rng.standard_normal(clear.shape)).astype(np.float32)


def black(picture: PIL.Image.Image, processor: SquareImageProcessor, rng: np.random.Generator) -> np.ndarray:
    """No picture at all."""
    return processor.pixels([PIL.Image.new("RGB", picture.size)])[0]


CORRUPTIONS: dict[str, Way] = {"crop": crop, "noise": noise, "black": black}
