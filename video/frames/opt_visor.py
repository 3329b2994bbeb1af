"""Opt-Visor's rule: the frames at whole seconds, at most n of them, equally many from the first to the last."""

from __future__ import annotations

import math

import numpy as np

from .base import Timed, linspace


def opt_visor(info: Timed, n: int | None = None) -> np.ndarray:
    """Candidates: the frames shown at 0, 1, 2 ... seconds. More than n: linspace(0, candidates - 1, n) truncated
    [R: RUCAIBox/Opt-Visor data_processor.py, apply_pattern_on_mmobj].

    Its decoder ("1fps") was not released: that a second's frame is the one shown at it is this toolkit's reading.
    """
    seconds = np.unique(info.index_at(np.arange(math.floor(float(info.times[-1]) + 1e-9) + 1)))
    return seconds if n is None or len(seconds) <= n else seconds[linspace(len(seconds) - 1, n)]
