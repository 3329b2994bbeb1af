"""The frames with the highest scores: the plain baseline of selection by a query."""

from __future__ import annotations

import numpy as np

from .base import best_first
from .candidates import Candidates


def top_k(candidates: Candidates, n: int) -> np.ndarray:
    """The n best; frames of equal score are taken evenly over the film."""
    return best_first(candidates.scores())[:n]
