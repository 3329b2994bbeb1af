"""So many frames a second."""

from __future__ import annotations

import numpy as np

from .base import Timed
from .uniform import uniform


def fps(info: Timed, n: int | None = None, *, rate: float = 1.0) -> np.ndarray:
    """The frames shown at 0, 1/rate, 2/rate ... seconds; with n, no more than n, then `uniform` from the first to the last.

    A rate above the film's own gives every frame once. ValueError for a rate that is not positive.
    """
    if not rate > 0:
        raise ValueError(f"a rate is a positive number of frames a second, got {rate}")
    steps = np.arange(int(float(info.times[-1]) * rate + 1e-9) + 1)
    found = np.unique(info.index_at(steps / rate))
    return found if n is None or len(found) <= n else uniform(info, n, at="ends")
