"""Sums of powers: E + a term for each of T^-a, M^-b, T^-c M^-d, fitted in logarithms of what must be positive."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from .base import ONE_BUDGET, Form, distinct

EXPONENTS = (0.02, 4.0)  # outside, a power over any range that is run looks like a logarithm or a step
TRIED = (0.15, 0.4, 0.9, 2.0)
TRIED_MANY = (0.3, 1.0)  # each of four exponents
SMALLEST, LARGEST = 1e-6, 1e3  # a term's height at the middle of the runs, in spreads of the values


class Term(NamedTuple):
    """`factor` times T^-e or M^-e or both. signed: the factor may be negative."""

    factor: str
    frames: str | None = None
    tokens: str | None = None
    signed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.factor, self.frames, self.tokens) if name is not None)


class PowerLaw(Form):
    """E + sum of `terms`. Search parameters: E, then for each term ln factor (the factor itself where signed) and ln exponents."""

    def __init__(self, name: str, *terms: Term) -> None:
        self.name, self.terms = name, terms
        self.parameters = ("E", *(part for term in terms for part in term.names))
        self.formula = "E" + "".join(f" + {_printed(term)}" for term in terms)
        self.places = []
        at = 1
        for term in terms:
            self.places.append(slice(at, at + len(term.names)))
            at += len(term.names)

    def value(self, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total = np.repeat(search[:, :1], x.shape[-1], axis=1)
        for term, place in zip(self.terms, self.places, strict=True):
            total = total + self._height(term, search[:, place], x, y)
        return total  # [S, n]

    def _height(self, term: Term, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        factor = search[:, :1] if term.signed else np.exp(search[:, :1])
        return factor * self._power(term, search, x, y)

    def _power(self, term: Term, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        exponent = np.zeros((len(search), x.shape[-1]))
        for rate, along in zip(np.exp(search[:, 1:]).T, _axes(term, x, y), strict=True):
            exponent -= rate[:, None] * along
        return np.exp(exponent)

    def slope(self, search: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        columns = [np.ones((len(search), len(x)))]
        for term, place in zip(self.terms, self.places, strict=True):
            part = search[:, place]
            height = self._height(term, part, x, y)
            columns.append(self._power(term, part, x, y) if term.signed else height)
            columns += [-rate[:, None] * along * height for rate, along in zip(np.exp(part[:, 1:]).T, _axes(term, x, y), strict=True)]
        return np.stack(columns, axis=-1)  # [S, n, p]

    def starts(self, x: np.ndarray, y: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """A grid of exponents; E and the factors are then a linear problem, solved exactly."""
        rates = [name for term in self.terms for name in term.names[1:]]
        root, least = np.sqrt(weights), _spread(values) * 1e-3
        found = []
        for tried in product(TRIED if len(rates) < 3 else TRIED_MANY, repeat=len(rates)):
            each = iter(tried)
            search = np.zeros((1, len(self.parameters)))
            for place in self.places:
                search[0, place.start + 1 : place.stop] = [np.log(next(each)) for _ in range(place.start + 1, place.stop)]
            columns = [np.ones(len(x)), *(self._power(t, search[:, p], x, y)[0] for t, p in zip(self.terms, self.places, strict=True))]
            solved = np.linalg.lstsq(np.stack(columns, axis=1) * root[:, None], values * root, rcond=None)[0]
            search[0, 0] = solved[0]
            for term, place, factor in zip(self.terms, self.places, solved[1:], strict=True):
                search[0, place.start] = factor if term.signed else np.log(max(factor, least))
            found.append(search[0])
        return np.array(found)

    def bounds(self, values: np.ndarray) -> np.ndarray:
        spread = _spread(values)
        low, high = np.full(len(self.parameters), -np.inf), np.full(len(self.parameters), np.inf)
        for term, place in zip(self.terms, self.places, strict=True):
            low[place], high[place] = np.log(EXPONENTS[0]), np.log(EXPONENTS[1])
            tallest = spread * LARGEST
            low[place.start], high[place.start] = (-tallest, tallest) if term.signed else (np.log(spread * SMALLEST), np.log(tallest))
        return np.stack([low, high])

    def natural(self, search: np.ndarray, x0: float, y0: float) -> np.ndarray:
        found = np.array(search, dtype=float)
        for term, place in zip(self.terms, self.places, strict=True):
            rates = np.exp(search[:, place.start + 1 : place.stop])
            found[:, place.start + 1 : place.stop] = rates
            factor = search[:, place.start] if term.signed else np.exp(search[:, place.start])
            found[:, place.start] = factor * np.exp(rates @ np.array(_centre(term, x0, y0)))
        return found

    def search(self, natural: np.ndarray) -> np.ndarray:
        found = np.array(natural, dtype=float)
        for term, place in zip(self.terms, self.places, strict=True):
            logged = slice(place.start + term.signed, place.stop)
            found[:, logged] = np.log(natural[:, logged])
        return found

    def lacking(self, x: np.ndarray, y: np.ndarray) -> str:
        for name, along, rate in (("frames", x, "frames"), ("tokens", y, "tokens")):
            if any(getattr(term, rate) for term in self.terms) and distinct(along) < 3:
                return f"at least 3 different numbers of {name}, found {distinct(along)}: a bend cannot be seen in fewer"
        if len(self.terms) > 1 and np.ptp(x + y) <= ONE_BUDGET:
            return "runs at more than one budget T x M: on a single one the two terms and E cannot be told apart"
        return self.too_few(x, y)


def _axes(term: Term, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    return [along for name, along in ((term.frames, x), (term.tokens, y)) if name]


def _centre(term: Term, x0: float, y0: float) -> list[float]:
    return [middle for name, middle in ((term.frames, x0), (term.tokens, y0)) if name]


def _printed(term: Term) -> str:
    return " ".join([term.factor, *([f"T^-{term.frames}"] if term.frames else []), *([f"M^-{term.tokens}"] if term.tokens else [])])


def _spread(values: np.ndarray) -> float:
    return max(float(np.ptp(values)), 1e-9 * (1 + float(np.abs(values).max())))
