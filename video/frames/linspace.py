"""Frames at equal distances in number, from the first to the last: what most evaluation code calls uniform."""

from __future__ import annotations

from typing import Literal

import numpy as np

from . import base
from .base import Timed, filled


def linspace(info: Timed, n: int | None = None, *, rounding: Literal["truncate", "round"] = "truncate") -> np.ndarray:
    """`linspace(0, N - 1, n)`. rounding "truncate": as `numpy.linspace(dtype=int)` does; "round": to the nearest, halves to even.

    ValueError without n.
    """
    if n is None:
        raise ValueError("sampling by linspace needs the number of frames, n")
    if rounding not in ("truncate", "round"):
        raise ValueError(f"rounding is 'truncate' or 'round', got {rounding!r}")
    last = info.n_frames - 1
    if rounding == "truncate":
        return base.linspace(last, n)
    return filled(np.round(np.linspace(0, last, min(n, last + 1))).astype(np.int64), n, info.times)
