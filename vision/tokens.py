"""The noun between pixels and words: a batch of visual tokens that knows its own shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch


class TokenFacts(NamedTuple):
    """What is known of visual tokens before any weight exists: feature width, grid of patches, tokens before the patches."""

    width: int
    grid: tuple[int, int]
    prefix: int = 0

    @property
    def total(self) -> int:
        """Tokens of one picture: prefix + rows x columns."""
        return self.prefix + self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True, repr=False)
class VisualTokens:
    """Visual tokens of B pictures, as an encoder or an adapter gives them.

    features: [B, N, D]. mask: [B, N] bool, True where a token is real. grid: (rows, columns) of the patch tokens in
    row-major order, or None where tokens have no place. prefix: how many tokens (a class token) stand before the
    patches, so that N = prefix + rows x columns. level: 0 for the only or finest scale, counting up with coarser ones.

    Raises ValueError when the parts do not fit together.
    """

    features: torch.Tensor
    mask: torch.Tensor
    grid: tuple[int, int] | None = None
    level: int = 0
    prefix: int = 0

    def __post_init__(self) -> None:
        if self.features.ndim != 3:
            raise ValueError(f"visual features are [B, N, D], got shape {tuple(self.features.shape)}")
        if self.mask.shape != self.features.shape[:2] or self.mask.dtype != torch.bool:
            raise ValueError(
                f"the mask is bool {tuple(self.features.shape[:2])} for features {tuple(self.features.shape)}, "
                f"got {self.mask.dtype} {tuple(self.mask.shape)}"
            )
        if self.grid is not None and self.prefix + self.grid[0] * self.grid[1] != self.features.shape[1]:
            raise ValueError(
                f"a prefix of {self.prefix} and a grid of {self.grid[0]} x {self.grid[1]} make "
                f"{self.prefix + self.grid[0] * self.grid[1]} tokens, got {self.features.shape[1]}"
            )

    @classmethod
    def full(cls, features: torch.Tensor, grid: tuple[int, int] | None, *, level: int = 0, prefix: int = 0) -> VisualTokens:
        """All of `features` [B, N, D] are real tokens."""
        mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        return cls(features, mask, grid, level, prefix)

    def rows(self) -> list[torch.Tensor]:
        """The real tokens of each picture: B tensors [n_i, D]."""
        return [row[keep] for row, keep in zip(self.features, self.mask, strict=True)]

    def __repr__(self) -> str:
        return (
            f"VisualTokens(features={list(self.features.shape)} {self.features.dtype}, mask={list(self.mask.shape)}, "
            f"grid={self.grid}, level={self.level}, prefix={self.prefix})"
        )
