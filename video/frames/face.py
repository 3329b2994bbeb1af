"""The face of frame selection: a method by name, its options checked, its answer whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..nearest import nearest
from .base import Timed
from .candidates import Candidates


def sample(info: Timed, method: str = "uniform", n: int | None = None, **options: Any) -> np.ndarray:
    """Places of frames by a rule of SAMPLERS: int64, rising, none twice, at most n (Qwen's rule rounds n to pairs).

    uniform, linspace, interval_middle and keyframes give exactly min(n, frames); the others, rules of a rate, fewer for a short film.

    ValueError for an unknown method or option (with the nearest known one), or n below 1.
    """
    from . import SAMPLERS  # the table imports this module

    _check_number(n)
    return np.asarray(_known(SAMPLERS, method, options, "sampler")(info, n, **options), np.int64)


def select(candidates: Candidates, method: str, n: int, **options: Any) -> np.ndarray:
    """Places among the candidates by a method of SELECTORS: int64, rising, none twice, exactly min(n, candidates).

    ValueError for an unknown method or option, n below 1, or candidates that cannot tell what the method asks.
    """
    from . import SELECTORS

    _check_number(n)
    chosen = _known(SELECTORS, method, options, "selector")
    if n >= len(candidates):
        return np.arange(len(candidates))
    return np.sort(np.asarray(chosen(candidates, n, **options), np.int64))


def _check_number(n: int | None) -> None:
    if n is not None and n < 1:
        raise ValueError(f"a number of frames is at least 1, got {n}")


def _known(table: Mapping[str, Callable[..., np.ndarray]], method: str, options: Mapping[str, Any], kind: str) -> Callable[..., np.ndarray]:
    if method not in table:
        raise ValueError(f"unknown {kind} '{method}'; {nearest(method, table)}")
    known = [name for name, parameter in inspect.signature(table[method]).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ValueError(f"{kind} '{method}' has no option '{option}'; {nearest(option, known)}")
    return table[method]
