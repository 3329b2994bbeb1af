"""LAION's aesthetic predictors: linear layers from a CLIP encoder's unit-length picture embedding to one number, about 1 to 10.

Released [R: LAION-AI/aesthetic-predictor, christophschuhmann/improved-aesthetic-predictor]: one Linear (`weight`, `bias`), or five in a row
(`layers.0`, `.2`, `.4`, `.6`, `.7`: 768, 1024, 128, 64, 16, 1) with dropout between and no activation. Both were trained on CLIP ViT-L/14.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import PIL.Image
import torch
from torch import nn

from .pairs import Pair
from .safe_weights import read_safetensors

AT_ONCE = 32  # pictures in one forward
_LAYER = re.compile(r"(?:layers\.(\d+)\.)?(weight|bias)")


class AestheticHead(nn.Module):
    """Linear layers in a row, without activations: `forward` maps unit embeddings [n, D] to scores [n]."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    @property
    def width(self) -> int:
        """D, the width of the embedding that it reads."""
        return int(next(iter(self.layers)).in_features)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.layers(embeddings).squeeze(-1)  # [n, D] -> [n]


def load_head(path: str | Path) -> AestheticHead:
    """The head of a safetensors file in one of the two released layouts, of any widths. ValueError for a pickle or another layout."""
    head = AestheticHead(_layers(read_safetensors(path), path))
    head.eval().requires_grad_(False)
    return head


def _layers(state: Mapping[str, torch.Tensor], path: str | Path) -> list[nn.Linear]:
    found = {key: _LAYER.fullmatch(key) for key in state}
    strange = [key for key, match in found.items() if match is None]
    if strange or not state:
        raise ValueError(
            f"'{path}' is no aesthetic head: it holds {strange[:3] or 'nothing'}, not 'weight' and 'bias' or 'layers.N.weight' ..."
        )
    places = sorted({int(match[1] or 0) for match in found.values() if match})
    named = "layers.{}.".format if any(match and match[1] for match in found.values()) else lambda _: ""
    try:
        layers = [_linear(state[f"{named(k)}weight"], state[f"{named(k)}bias"]) for k in places]
    except KeyError as error:
        raise ValueError(f"'{path}' is no whole aesthetic head: {error} is missing") from None
    widths = [(layer.in_features, layer.out_features) for layer in layers]
    if any(a[1] != b[0] for a, b in pairwise(widths)) or widths[-1][1] != 1:
        raise ValueError(f"'{path}' is no aesthetic head: its layers map {widths}, which is no way from an embedding to one number")
    return layers


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return layer


class AestheticScorer:
    """Scores of pictures by an encoder and a head that fit each other. Raises ValueError where their widths differ."""

    def __init__(self, pair: Pair, head: AestheticHead, name: str) -> None:
        self.pair, self.head = pair, head
        width = pair.image_embeddings([PIL.Image.new("RGB", (8, 8))]).shape[1]
        if width != head.width:
            raise ValueError(
                f"the aesthetic head reads embeddings of width {head.width}, '{name}' makes them {width} wide: it is not its encoder"
            )
        self.head.to(next(pair.model.parameters()).device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[PIL.Image.Image]) -> list[float]:
        parts = [pictures[i : i + AT_ONCE] for i in range(0, len(pictures), AT_ONCE)]
        return [score for part in parts for score in self.head(self.pair.image_embeddings(part)).tolist()]
