"""Average pooling in windows, then the two-layer MLP, or the other way round: Opt-Visor's projector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from ..pooling import Edges, average, padded
from ..tokens import TokenFacts, VisualTokens
from .base import Adapter, feature_map
from .mlp import MlpAdapter


class OptVisorAdapter(Adapter):
    """W2 SiLU(W1 pool(x) + b1) + b2 with means of kernel x kernel patches, ceil(side / kernel) a side; `after`: the MLP first, on every
    patch [R: RUCAIBox/Opt-Visor projector.py, MeanPoolingProjector].

    edges "zeros": windows over the edge count patches of zero (to which `after` applies the MLP too), as its checkpoints were trained;
    "real", for new models: they are means of what they have.
    """

    def __init__(
        self,
        inputs: Sequence[TokenFacts],
        out_width: int,
        *,
        kernel: int = 4,
        after: bool = False,
        edges: Edges = "real",
        act: str = "silu",
    ) -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        if kernel < 1 or edges not in ("real", "zeros"):
            raise ValueError(f"the kernel is at least 1 and edges are 'real' or 'zeros', got {kernel} and {edges!r}")
        self.kernel, self.after, self.edges = kernel, after, edges
        self.mlp = MlpAdapter(inputs, out_width, depth=2, bias=True, act=act)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        if not self.after:
            return self.mlp(self._pooled(tokens))
        maps = feature_map(tokens) if self.edges == "real" else padded(feature_map(tokens), self._kernels)
        seen = self.mlp(VisualTokens.full(maps.flatten(2).transpose(1, 2), (maps.shape[2], maps.shape[3])))
        return replace(self._pooled(seen), mask=self._real(tokens), level=tokens.level)

    @property
    def _kernels(self) -> tuple[int, int]:
        return self.kernel, self.kernel

    def _pooled(self, tokens: VisualTokens) -> VisualTokens:
        pooled = average(feature_map(tokens), self._kernels, self.edges)
        features = pooled.flatten(2).transpose(1, 2)  # [B, ceil(rows / k) x ceil(columns / k), d]
        return VisualTokens(features, self._real(tokens), (pooled.shape[2], pooled.shape[3]), tokens.level)

    def _real(self, tokens: VisualTokens) -> torch.Tensor:
        """[B, M]: a window is real where one of its patches is."""
        share = feature_map(replace(tokens, features=tokens.mask[..., None].float()))
        return F.max_pool2d(share, self._kernels, ceil_mode=True).flatten(1) > 0

    def tokens_out(self) -> int:
        rows, columns = (-(-side // self.kernel) for side in self.inputs[0].grid)
        return rows * columns
