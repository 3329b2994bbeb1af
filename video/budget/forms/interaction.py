"""E + A T^-a + B M^-b + C T^-c M^-d: frames and tokens help or hinder each other."""

from __future__ import annotations

import numpy as np

from .additive import FRAMES, TOKENS, one_axis
from .base import Axis, independent
from .powers import PowerLaw, Term


class Interaction(PowerLaw):
    """The additive law and a product term of either sign (the "add-interact" family of arXiv 2505.18855, its axes T and M)."""

    def __init__(self) -> None:
        super().__init__("interaction", FRAMES, TOKENS, Term("C", frames="c", tokens="d", signed=True))

    def without(self, axis: Axis) -> PowerLaw:
        return one_axis("tokens" if axis == "frames" else "frames")

    def lacking(self, x: np.ndarray, y: np.ndarray) -> str:
        missing = super().lacking(x, y)
        if missing:
            return missing
        columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
        if independent(columns - columns.mean(axis=0) * [0, 1, 1, 1, 1, 1]) < 6:
            return "settings off the two sweeps (at least 3): a cross or a line cannot show an interaction"
        return ""
