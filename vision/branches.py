"""Branches: the ways a model's towers read one and the same picture (another size, crops, another tower)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from transformers import PreTrainedConfig

from .encoders import Encoder, facts_of, has_no_class_token
from .tokens import TokenFacts, VisualTokens


@dataclass(frozen=True)
class Branch:
    """How one tower reads the picture.

    tower: "vision_tower" or the name of one of the model's further towers; several branches may share one. image_size: side in
    pixels that the picture is resized to (antialiased bilinear); None: as it comes. crops: k cuts it into k x k crops, each
    read by itself, their features stitched into one map of k times the rows and columns. layer, keep_cls: see `Encoder`.
    mean, std: constants this tower was trained with, where they differ from `given_mean`, `given_std` of the pixels.

    Raises ValueError for crops with class tokens, or a size that the crops do not divide.
    """

    tower: str = "vision_tower"
    image_size: int | None = None
    crops: int = 1
    layer: int = -2
    keep_cls: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    given_mean: Sequence[float] = (0.5, 0.5, 0.5)
    given_std: Sequence[float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.crops < 1 or (self.image_size or 0) % self.crops:
            raise ValueError(f"{self.crops} crops a side do not divide a picture of {self.image_size} pixels")
        if self.crops > 1 and self.keep_cls:
            raise ValueError("crops are stitched into one map, which has no place for class tokens; set keep_cls to False")
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std of a branch, or neither")


def side(branch: Branch, config: PreTrainedConfig) -> int:
    """Pixels a side of the picture that this branch wants from the tower of `config`: its own size, or the tower's, times crops."""
    return branch.image_size or native_side(config) * branch.crops


def native_side(config: PreTrainedConfig) -> int:
    """Pixels a side of the pictures that a tower was made for."""
    size = config.image_size
    return int(size if isinstance(size, int) else size[0])


def facts(branch: Branch, config: PreTrainedConfig) -> TokenFacts:
    """What the branch will give; ValueError for a size that is no whole number of the tower's patches, or a class token it lacks."""
    if branch.keep_cls and has_no_class_token(config):
        raise ValueError(f"keep_cls is set and the tower '{branch.tower}' ({config.model_type}) has no class token; set keep_cls to False")
    tower, crop, native = facts_of(config, branch.layer), side(branch, config) // branch.crops, native_side(config)
    patches = [crop * n / native for n in tower.grid]
    if not all(p.is_integer() and p >= 1 for p in patches):
        raise ValueError(
            f"a branch gives the tower pictures of {crop} pixels, which is no whole number of its patches "
            f"({native} pixels are {tower.grid[0]} x {tower.grid[1]} of them); choose another image_size or crops"
        )
    grid = (int(patches[0]) * branch.crops, int(patches[1]) * branch.crops)
    return TokenFacts(tower.width, grid, int(branch.keep_cls))


def read(branch: Branch, encoder: Encoder, pixel_values: torch.Tensor) -> VisualTokens:
    """[B, 3, S, S] -> the VisualTokens [B, N, D] of this branch."""
    pixels = _normalised(branch, _resized(pixel_values, branch.image_size))
    if branch.crops == 1:
        return encoder(pixels)
    return _stitched(encoder(cropped(pixels, branch.crops)), branch.crops)


def cropped(pixels: torch.Tensor, k: int) -> torch.Tensor:
    """[B, 3, H, W] -> [B k^2, 3, H / k, W / k], the crops of a picture row by row. ValueError where k does not divide."""
    height, width = pixels.shape[-2:]
    if height % k or width % k:
        raise ValueError(f"a picture of {height} x {width} pixels cannot be cut into {k} x {k} equal crops")
    blocks = pixels.unflatten(3, (k, width // k)).unflatten(2, (k, height // k))  # [B, 3, k, H/k, k, W/k]
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _stitched(crops: VisualTokens, k: int) -> VisualTokens:
    assert crops.grid is not None  # every encoder gives one
    rows, columns = crops.grid
    parts = crops.features.unflatten(0, (-1, k, k)).unflatten(3, (rows, columns))  # [B, k, k, r, c, D]
    features = parts.transpose(2, 3).flatten(1, 4)  # [B, k r k c, D]
    return replace(VisualTokens.full(features, (k * rows, k * columns)), level=crops.level)


def _resized(pixels: torch.Tensor, size: int | None) -> torch.Tensor:
    if size is None or pixels.shape[-2:] == (size, size):
        return pixels
    resized = F.interpolate(pixels.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.to(pixels.dtype)


def _normalised(branch: Branch, pixels: torch.Tensor) -> torch.Tensor:
    if branch.mean is None or branch.std is None:
        return pixels
    mean, std, was_mean, was_std = (
        pixels.new_tensor(values).view(3, 1, 1) for values in (branch.mean, branch.std, branch.given_mean, branch.given_std)
    )
    return (pixels * was_std + was_mean - mean) / std
