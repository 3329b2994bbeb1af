"""Pixel shuffle (space to depth): r x r neighbours become one token with r^2 times the channels; InternVL's and SmolVLM's forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from ..tokens import TokenFacts, VisualTokens
from .base import Adapter, grid_of
from .windows import window_of, windows

FORMS = ("internvl_v1", "internvl_v2", "smolvlm")


class PixelShuffleAdapter(Adapter):
    """[B, R C, d] -> [B, R C / r^2, out]: the channels of token (y, x) are those of patches (r y + i, r x + j), block i r + j.

    form "internvl_v2": merge, LN, Linear, GELU, Linear. "internvl_v1": the same with the merged grid transposed, as the first
    releases left it [R: OpenGVLab/InternVL, internvl_chat/internvl/model/internvl_chat/modeling_internvl_chat.py, ps_version].
    "smolvlm": merge, one Linear without bias [R: transformers, models/idefics3; huggingface/nanoVLM, models/modality_projector.py].
    factor: r, which must divide both sides of the grid. A merged token is real where one of its patches is.
    """

    def __init__(self, inputs: Sequence[TokenFacts], out_width: int, *, factor: int = 2, form: str = "internvl_v2") -> None:
        super().__init__(inputs, out_width)
        self.refuse_prefix()
        rows, columns = inputs[0].grid
        if form not in FORMS:
            raise ValueError(f"unknown form of pixel shuffle '{form}'; known: {', '.join(FORMS)}")
        if factor < 1 or rows % factor or columns % factor:
            raise ValueError(
                f"a pixel shuffle of factor {factor} does not divide a grid of {rows} x {columns} patches; change factor or size"
            )
        self.factor, self.transposed = factor, form == "internvl_v1"
        merged = inputs[0].width * factor**2
        if form == "smolvlm":
            self.projection: nn.Module = nn.Linear(merged, out_width, bias=False)
        else:
            layers = [nn.LayerNorm(merged), nn.Linear(merged, out_width), nn.GELU(), nn.Linear(out_width, out_width)]
            self.projection = nn.Sequential(*layers)

    def forward(self, *branches: VisualTokens) -> VisualTokens:
        (tokens,) = branches
        fine = grid_of(tokens)
        cells = (fine[0] // self.factor, fine[1] // self.factor)
        window_of(fine, cells)
        features = windows(tokens.features, fine, cells).flatten(2)  # [B, cells, r^2 d]
        mask = windows(tokens.mask, fine, cells).any(-1)
        if self.transposed:
            features, mask, cells = _transposed(features, cells), _transposed(mask, cells), (cells[1], cells[0])
        return replace(tokens, features=self.projection(features), mask=mask, grid=cells)

    def tokens_out(self) -> int:
        return self.inputs[0].total // self.factor**2


def _transposed(values: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return values.unflatten(1, grid).transpose(1, 2).flatten(1, 2)
