"""A batch of preference pairs for the tests of objectives."""

from collections.abc import Callable
from typing import Any

import PIL.Image
import pytest
import torch

from data_tools.records import Image, Message, Part, PreferencePair, Sample


@pytest.fixture
def pair_batch(processor: Any, picture: Callable[[int], PIL.Image.Image]) -> dict[str, torch.Tensor]:
    """Two pairs, one of them about a picture of its own, in a row for each answer; a reference that finds every token as likely."""
    from mm_align.models.pairs import collate_pairs, prepare_pair

    def pair(seed: int, chosen: str, rejected: str) -> PreferencePair:
        turn = Message("user", (Part("image"), Part("text", "what? ")))
        return PreferencePair(Sample(str(seed), (turn,), (Image(pixels=picture(seed)),)), chosen, rejected, 1.0)

    pairs = [prepare_pair(pair(0, "red ball", "a blue cube"), processor), prepare_pair(pair(1, "two", "three"), processor)]
    batch = collate_pairs(pairs, processor, layout="duplicated")
    return batch | {"reference_logps": torch.where(batch["answer_mask"], -5.0, 0.0)}
