"""A parabola along one budget T x M: the cheapest design, which says where its own minimum lies and nothing else."""

from __future__ import annotations

import numpy as np

from .base import ONE_BUDGET, Axis, distinct
from .polynomial import Polynomial


class IsoParabola(Polynomial):
    """c + z s + zz s^2 with s = ln(T / M) / 2: at a fixed budget, s rises as ln T does."""

    one_budget = True

    def __init__(self) -> None:
        super().__init__("iso_parabola", "c + z s + zz s^2, s = ln(T / M) / 2", c=(0, 0), z=(1, 0), zz=(2, 0))

    def columns(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        split = (x - y) / 2
        return np.stack([split**i for i, _ in self.powers], axis=-1)

    def lacking(self, x: np.ndarray, y: np.ndarray) -> str:
        if np.ptp(x + y) > ONE_BUDGET:
            return "runs at a single budget T x M"
        if distinct(x - y) < 4:
            return f"at least 4 different splits of the budget, found {distinct(x - y)}"
        return ""

    def without(self, axis: Axis) -> Polynomial:
        """What saves frames costs tokens here: both axes are the bend."""
        return IsoLine()


class IsoLine(IsoParabola):
    """No bend: one end of the range is best, and no optimum lies inside."""

    def __init__(self) -> None:
        Polynomial.__init__(self, "iso_line", "c + z s", c=(0, 0), z=(1, 0))
