"""The token at which the expected beginnings of an answer part, and their probabilities there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Branches:
    """`texts[i]` begins with the tokens `common` and then `parting[i]`; all parting tokens differ."""

    texts: tuple[str, ...]
    common: tuple[int, ...]
    parting: tuple[int, ...]

    def odds(self, logits: torch.Tensor) -> dict[str, float]:
        """Probability of each branch among them, from the logits [V] at the parting point."""
        chosen = logits[list(self.parting)].float().softmax(-1).tolist()
        return dict(zip(self.texts, chosen, strict=True))


def find_branches(tokenizer: Any, texts: Sequence[str]) -> Branches | None:
    """Where `texts` part under this tokenizer; None for no texts.

    Each text must end where the tokenizer ends a token when an answer goes on behind it (`{"Recaption": "` rather than
    `{"Recap`). Raises ValueError when texts do not part (fewer than two, or one begins with another).
    """
    if not texts:
        return None
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    shared = common_prefix(ids)
    parting = tuple(row[len(shared)] for row in ids if len(row) > len(shared))
    if len(set(parting)) != len(texts) or len(texts) < 2:
        raise ValueError(f"branches must be two or more texts, none the beginning of another, that part at one token; got {list(texts)!r}")
    return Branches(tuple(texts), tuple(shared), parting)


def common_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """The tokens with which all rows begin."""
    shared: list[int] = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared
