"""What every adapter offers: visual tokens of the encoders' widths -> visual tokens of the language model's width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

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

    @abstractmethod
    def forward(self, *branches: VisualTokens) -> VisualTokens: ...

    @abstractmethod
    def tokens_out(self) -> int:
        """M: how many tokens one picture becomes; known before anything runs."""
