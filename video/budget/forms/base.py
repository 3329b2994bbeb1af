"""What every form of the law offers: its value, its slope, where a search begins, what runs it needs, and itself without one axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np

Axis = Literal["frames", "tokens"]
ONE_BUDGET = 0.15  # how far ln(T M) may spread on a single budget: whole frames and square grids miss it by some percent


class Form(ABC):
    """A family of surfaces l(x, y) over x = ln T (frames) and y = ln M (tokens a frame); less is better.

    parameters: their names, in the order of the last axis of every array of them. Arrays of parameters are [S, p]: S surfaces at once,
    so that starts, folds and resamples are fitted together. `natural` parameters are those of the printed formula; `search` ones are
    what the fit moves: logarithms of what must be positive, about the middle of the runs, where they depend least on each other.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    extrapolates: bool = True  # may be asked outside of the runs
    one_budget: bool = False  # holds along the runs' own T x M only

    @abstractmethod
    def value(self, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[S, p] and places, [n] for all surfaces or [S, n] for each -> [S, n]."""

    @abstractmethod
    def slope(self, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Derivatives by the search parameters: [S, n, p]."""

    @abstractmethod
    def starts(self, x: np.ndarray, y: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Search parameters to begin from, [S, p]; S is 1 where the problem has one minimum."""

    @abstractmethod
    def bounds(self, values: np.ndarray) -> np.ndarray:
        """Least and greatest search parameters, [2, p]."""

    @abstractmethod
    def natural(self, search: np.ndarray, x0: float, y0: float) -> np.ndarray:
        """The printed formula's parameters of a fit made at x - x0, y - y0."""

    @abstractmethod
    def search(self, natural: np.ndarray) -> np.ndarray:
        """The inverse of `natural` at x0 = y0 = 0."""

    @abstractmethod
    def lacking(self, x: np.ndarray, y: np.ndarray) -> str:
        """What runs at these places [n] lack for this form, as a clause; "" when they will do."""

    @abstractmethod
    def without(self, axis: Axis) -> Form:
        """The same family when frames, or tokens, make no difference: what the form is tested against."""

    def too_few(self, x: np.ndarray, y: np.ndarray) -> str:
        """`lacking` as to the number of settings: one more than parameters, or nothing is left to judge the fit by."""
        found, needed = len(np.unique(settings(x, y))), len(self.parameters) + 1
        return f"at least {needed} different settings for its {needed - 1} parameters, found {found}" if found < needed else ""


def settings(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A number for each place [n], the same for runs at the same place."""
    return np.unique(np.round(np.stack([x, y], axis=1), 6), axis=0, return_inverse=True)[1].reshape(-1)


def distinct(values: np.ndarray) -> int:
    """How many different values there are, rounding aside."""
    return len(np.unique(np.round(values, 6)))


def independent(columns: np.ndarray) -> int:
    """The number of directions in which columns [n, k] of unit length differ."""
    lengths = np.linalg.norm(columns, axis=0)
    return int(np.linalg.matrix_rank(columns / np.where(lengths > 0, lengths, 1), tol=1e-6))
