"""What every adapter offers: visual tokens of the encoders' widths -> visual tokens of the language model's width."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from ..tokens import TokenFacts, VisualTokens


class Adapter(nn.Module, ABC):
    """Maps the VisualTokens [B, N_i, in_i] of one or several branches to VisualTokens [B, M, out].

    Built as `Adapter(inputs, out_width, **options)`; `inputs` says what each branch will give. `branches` holds the least
    and the greatest number of branches that the adapter takes (None: any). Raises ValueError at construction for inputs that
    it cannot serve.
    """

    branches: ClassVar[tuple[int, int | None]] = (1, 1)

    def __init__(self, inputs: Sequence[TokenFacts], out_width: int) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.out_width = out_width

    def refuse_prefix(self) -> None:
        """ValueError where a branch keeps tokens before its patches: for adapters that work on the grid."""
        if any(facts.prefix for facts in self.inputs):
            raise ValueError(
                f"{type(self).__name__} works on the grid of patches, which has no place for a class token; set keep_cls to False"
            )

    def check_grids(self, branches: Sequence[VisualTokens]) -> None:
        """ValueError where tokens lie on another grid than the adapter was built for: for adapters that learn places."""
        for tokens, facts in zip(branches, self.inputs, strict=True):
            if tokens.grid != facts.grid:
                raise ValueError(
                    f"{type(self).__name__} learned the places of a grid of {facts.grid}, and was given one of {tokens.grid}; "
                    f"set image_size of the branch, or build the adapter for this grid"
                )

    @abstractmethod
    def forward(self, *branches: VisualTokens) -> VisualTokens: ...

    @abstractmethod
    def tokens_out(self) -> int:
        """M: how many tokens one picture becomes; known before anything runs."""


def grid_of(tokens: VisualTokens) -> tuple[int, int]:
    """Rows and columns of the tokens; ValueError where they have no place."""
    if tokens.grid is None:
        raise ValueError(f"an adapter that works on the grid of patches got tokens without one: {tokens}")
    return tokens.grid


def feature_map(tokens: VisualTokens) -> torch.Tensor:
    """The patches as a picture: [B, N, D] -> [B, D, rows, columns]."""
    return tokens.features.transpose(1, 2).unflatten(2, grid_of(tokens))


def square_side(num_tokens: int) -> int:
    """The side of a square of so many tokens; ValueError for a number that is no square."""
    side = math.isqrt(max(num_tokens, 0))
    if side < 1 or side**2 != num_tokens:
        raise ValueError(
            f"the tokens of this adapter form a square, and {num_tokens} is none; the nearest are {side**2} and {(side + 1) ** 2}"
        )
    return side


def pooled_side(num_tokens: int, grid: tuple[int, int]) -> int:
    """`square_side`, for pooling a grid; ValueError where the grid has fewer rows or columns."""
    side = square_side(num_tokens)
    if side > min(grid):
        raise ValueError(
            f"{num_tokens} tokens are a square of {side} x {side}, more than a grid of {grid[0]} x {grid[1]} patches can be pooled to; "
            f"ask for at most {min(grid) ** 2} tokens or give the tower a larger image_size"
        )
    return side
