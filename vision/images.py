"""Pictures -> the numbers a vision tower reads: one square resize with Pillow, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from .aspects import ASPECTS

Picture: TypeAlias = PIL.Image.Image | np.ndarray | torch.Tensor


class SquareImageProcessor(BaseImageProcessor):
    """A square of size x size, then (x / 255 - mean) / std in float32.

    Defaults are SigLIP's: bicubic, mean and std 0.5 [R: preprocessing of AITQE]. Pillow alone does the resize, so results
    do not depend on torchvision; a picture of the right size is not touched by it. aspect: how a picture becomes square, of
    `vision.aspects`: "squash" (direct, distorting resize), "pad" (with the mean colour, LLaVA-1.5's) or "crop" (the middle).
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        size: int = 384,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        resample: int = PIL.Image.Resampling.BICUBIC,
        aspect: str = "squash",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if aspect not in ASPECTS:
            raise ValueError(f"unknown aspect '{aspect}'; a picture becomes square by {', '.join(ASPECTS)}")
        self.size = size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.resample = int(resample)
        self.aspect = aspect

    def preprocess(self, images: Any, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        """One picture or a (nested) list -> {"pixel_values": float32 [n, 3, size, size]}."""
        pixels = self.pixels(_flat(images))
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)

    def __call__(self, images: Any, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        return self.preprocess(images, return_tensors, **kwargs)

    def pixels(self, pictures: Sequence[Picture]) -> np.ndarray:
        """n pictures -> float32 [n, 3, size, size]. TypeError for something that is no picture."""
        stacked = np.stack([self._square(picture) for picture in pictures])  # [n, H, W, 3] uint8
        mean, std = np.asarray(self.image_mean, np.float32), np.asarray(self.image_std, np.float32)
        scaled = stacked.astype(np.float32) * (np.float32(1) / (np.float32(255) * std)) - mean / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def _square(self, picture: Picture) -> np.ndarray:
        fill = [int(mean * 255) for mean in self.image_mean]
        return np.asarray(ASPECTS[self.aspect](_rgb(picture), self.size, fill, self.resample))


def _rgb(picture: Picture) -> PIL.Image.Image:
    if isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu().numpy()
    if isinstance(picture, np.ndarray):
        picture = PIL.Image.fromarray(_channels_last(picture))
    if not isinstance(picture, PIL.Image.Image):
        raise TypeError(f"a picture is a PIL image or a uint8 array, got {type(picture).__name__}; decode paths and bytes first")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or 3 not in (array.shape[0], array.shape[-1]):
        raise TypeError(f"an array picture is uint8 [H, W, 3] or [3, H, W], got {array.dtype} {array.shape}")
    return array if array.shape[-1] == 3 else array.transpose(1, 2, 0)


def _flat(images: Any) -> list[Picture]:
    if isinstance(images, list | tuple):
        return [picture for item in images for picture in _flat(item)]
    return [images]
