"""A small additive model in numpy: the chance that a row is poor, from the numbers that signals tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import Signals

BINS = 8  # steps of a signal, at quantiles, so that too little and too much can both be poor
CLIP = 4.0  # standard deviations
RIDGE = 1.0
MOST_TEXTS = 8  # values of a signal that is a text
COMMON = 0.01  # share of rows that such a value has at the least, so that hashes and names of rows are none
STEPS = 30
DECIMALS = 9  # of a chance, so that machines whose sums differ in the last bits decide alike


@dataclass(frozen=True)
class Logistic:
    """`chance(signals)`: logistic regression over each signal's logarithm, its step among `BINS`, and whether it is unknown.

    names: signals that are numbers, or "SIGNAL=TEXT" for whether one that is a text has this value.

    centres, scales, edges: by signal, of the rows it was fitted on. weights: the constant, then as many as columns.
    """

    names: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    edges: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def chance(self, signals: Signals) -> float:
        return float(self.chances([signals])[0])

    def chances(self, rows: Sequence[Signals]) -> np.ndarray:
        """Float64 [N]."""
        columns = self._columns(values(rows, self.names))
        with np.errstate(over="ignore"):
            chances: np.ndarray = np.round(1 / (1 + np.exp(-(columns @ np.array(self.weights)))), DECIMALS)
            return chances

    def _columns(self, x: np.ndarray) -> np.ndarray:
        """[N, signals] -> [N, 1 + signals * (2 + BINS)]; unknown values have their own column and nothing else."""
        parts = [np.ones((len(x), 1))]
        for k in range(len(self.names)):
            known = ~np.isnan(x[:, k])
            value = np.where(known, x[:, k], self.centres[k])
            z = np.clip((value - self.centres[k]) / self.scales[k], -CLIP, CLIP)
            step = np.searchsorted(self.edges[k], value, side="right")
            parts.append(np.column_stack([z, ~known, (step[:, None] == np.arange(BINS)) & known[:, None]]))
        return np.concatenate(parts, axis=1)

    def to_dict(self) -> dict[str, Any]:
        numbers = {"centres": self.centres, "scales": self.scales, "weights": self.weights}
        return {"names": list(self.names), **{k: list(v) for k, v in numbers.items()}, "edges": [list(e) for e in self.edges]}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Logistic:
        edges = tuple(tuple(steps) for steps in d["edges"])
        return cls(tuple(d["names"]), tuple(d["centres"]), tuple(d["scales"]), edges, tuple(d["weights"]))


def values(rows: Sequence[Signals], names: Sequence[str]) -> np.ndarray:
    """Signed logarithms of the signals' numbers, nan where there is none: float64 [N, names]."""
    table = np.array([[_number(row, name) for name in names] for row in rows], np.float64).reshape(len(rows), len(names))
    return np.sign(table) * np.log1p(np.abs(table))


def _number(row: Signals, name: str) -> float:
    signal, equals, wanted = name.partition("=")
    value = row.get(signal)
    if equals:
        return np.nan if value is None else float(value == wanted)
    return float(value) if isinstance(value, int | float) else np.nan


def columns_of(rows: Sequence[Signals], kinds: Mapping[str, type]) -> list[str]:
    """Signals that are numbers by their name, and "text.language=en" for each of the commonest values of one that is a text."""
    names = [name for name, kind in kinds.items() if kind is not str]
    for name in (name for name, kind in kinds.items() if kind is str):
        found = Counter(value for row in rows if isinstance(value := row.get(name), str))
        ranked = sorted(found.items(), key=lambda told: (-told[1], told[0]))[:MOST_TEXTS]
        names += [f"{name}={value}" for value, n in ranked if n > max(1, COMMON * len(rows))]
    return names


def fit(rows: Sequence[Signals], poor: np.ndarray, names: Sequence[str]) -> Logistic:
    """The model of these rows; poor: bool [N]. Signals that are always the same or never a number are left out."""
    x = values(rows, names)
    useful = [k for k in range(len(names)) if len(np.unique(x[:, k][~np.isnan(x[:, k])])) > 1 or 0 < np.isnan(x[:, k]).sum() < len(x)]
    x = x[:, useful]
    known = [x[:, k][~np.isnan(x[:, k])] for k in range(len(useful))]
    edges = tuple(tuple(np.quantile(v, np.arange(1, BINS) / BINS).tolist()) for v in known)
    model = Logistic(
        tuple(names[k] for k in useful),
        tuple(float(v.mean()) for v in known),
        tuple(float(v.std()) or 1.0 for v in known),
        edges,
        (),
    )
    return Logistic(model.names, model.centres, model.scales, edges, tuple(_newton(model._columns(x), poor.astype(np.float64)).tolist()))


def _newton(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of ridge logistic regression by Newton's method, the constant unpenalised but for its last digits."""
    ridge = np.full(columns.shape[1], RIDGE)
    ridge[0] = 1e-6
    weights = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(columns @ weights, -30, 30)))
        gradient = columns.T @ (p - y) + ridge * weights
        curvature = (columns * (p * (1 - p))[:, None]).T @ columns + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return weights
