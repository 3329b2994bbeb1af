"""The frames at which decoding can begin: encoders put them at cuts and at regular distances, and they are cheap to reach."""

from __future__ import annotations

import numpy as np

from .base import Timed, filled, linspace


def keyframes(info: Timed, n: int | None = None) -> np.ndarray:
    """All keyframes without n; more than n are thinned evenly, less than n are joined by the frames farthest from all others."""
    found = np.unique(info.index_at(info.key_times))
    if n is None:
        return filled(found, 1, info.times)
    return found[linspace(len(found) - 1, n)] if len(found) > n else filled(found, n, info.times)
