"""Cosine of a picture and its text in the space of a CLIP or SigLIP of transformers or open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import torch

from .pairs import Pair, load_pair

AT_ONCE = 32  # pairs in one forward
BUILT_IN = "open_clip:"


class PairSimilarity:
    """Cosines, -1 to 1, of n pictures and n texts. Texts are cut at the encoder's context length."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    @torch.no_grad()
    def __call__(self, pictures: Sequence[PIL.Image.Image], texts: Sequence[str]) -> list[float]:
        if len(pictures) != len(texts):
            raise ValueError(f"{len(pictures)} pictures and {len(texts)} texts are no pairs")
        cosines: list[float] = []
        for start in range(0, len(texts), AT_ONCE):
            shown, said = pictures[start : start + AT_ONCE], texts[start : start + AT_ONCE]
            images, words = self.pair.image_embeddings(shown), self.pair.text_embeddings(said)  # [n, D], unit vectors
            cosines += (images * words).sum(-1).tolist()
        return cosines


def load_similarity(name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> PairSimilarity:
    """The similarity of an encoder pair by its name.

    A folder or hub id of transformers; a folder with open_clip_config.json, "hf-hub:OWNER/NAME" or "open_clip:MODEL/TAG"
    (such as "open_clip:ViT-B-32/laion2b_s34b_b79k") of open_clip. Raises ValueError in a sentence where there is no such pair.
    """
    placed = {"device": device, "dtype": dtype}
    if name.startswith(BUILT_IN):
        model, _, tag = name.removeprefix(BUILT_IN).partition("/")
        return PairSimilarity(load_pair(model, "open_clip", pretrained=tag or None, **placed))
    ours = name.startswith("hf-hub:") or (Path(name) / "open_clip_config.json").is_file()
    return PairSimilarity(load_pair(name, "open_clip" if ours else "transformers", **placed))
