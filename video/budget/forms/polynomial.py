"""Forms that are linear in their parameters: a few columns of ln T and ln M."""

from __future__ import annotations

import numpy as np

from .base import Axis, Form, independent


class Polynomial(Form):
    """Sum of parameters times x^i y^j for the `powers` (i, j). It bends back outside the runs, so it is never asked there."""

    extrapolates = False

    def __init__(self, name: str, formula: str, **powers: tuple[int, int]) -> None:
        self.name, self.formula = name, formula
        self.parameters = tuple(powers)
        self.powers = tuple(powers.values())

    def columns(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[n, p]."""
        return np.stack([x**i * y**j for i, j in self.powers], axis=-1)

    def value(self, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (self.columns(x, y) @ search[:, :, None])[:, :, 0]

    def slope(self, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        columns = self.columns(x, y)
        return np.broadcast_to(columns, (len(search), *columns.shape))

    def starts(self, x: np.ndarray, y: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        root = np.sqrt(weights)
        return np.linalg.lstsq(self.columns(x, y) * root[:, None], values * root, rcond=None)[0][None]

    def bounds(self, values: np.ndarray) -> np.ndarray:
        return np.stack([np.full(len(self.powers), -np.inf), np.full(len(self.powers), np.inf)])

    def natural(self, search: np.ndarray, x0: float, y0: float) -> np.ndarray:
        """Through values: the same polynomial takes the same values at any p places in general position."""
        places = np.linspace(0.0, 3.0, 12)
        x, y = (grid.ravel() for grid in np.meshgrid(x0 + places, y0 + places))
        return np.linalg.lstsq(self.columns(x, y), self.value(search, x - x0, y - y0).T, rcond=None)[0].T

    def search(self, natural: np.ndarray) -> np.ndarray:
        return np.array(natural, dtype=float)

    def lacking(self, x: np.ndarray, y: np.ndarray) -> str:
        missing = self.too_few(x, y)
        if missing:
            return missing
        if independent(self.columns(x - x.mean(), y - y.mean())) < len(self.powers):
            return "settings that lie on no single line or cross: some of its terms cannot be told apart here"
        return ""

    def without(self, axis: Axis) -> Polynomial:
        kept = {n: p for n, p in zip(self.parameters, self.powers, strict=True) if not p[0 if axis == "frames" else 1]}
        return Polynomial(f"{self.name} without {axis}", "", **kept)
