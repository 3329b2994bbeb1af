"""Frames at equal distances in time."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .base import Timed, filled


def uniform(info: Timed, n: int | None = None, *, at: Literal["middles", "ends"] = "middles") -> np.ndarray:
    """The frames shown at n instants. at "middles": of n equal stretches of the duration; "ends": from the first frame to the last.

    Instants are looked up in the frames' own times, so a variable rate does no harm. Where two instants show one frame, the frame
    farthest in time from the others takes the place. ValueError without n.
    """
    if n is None:
        raise ValueError("uniform sampling needs the number of frames, n")
    if at not in ("middles", "ends"):
        raise ValueError(f"uniform sampling is at 'middles' or 'ends', got {at!r}")
    last = float(info.times[-1])
    instants = np.linspace(0.0, last, n) if at == "ends" and n > 1 else (np.arange(n) + 0.5) * max(info.duration, last) / n
    return filled(info.index_at(instants), n, info.times)
