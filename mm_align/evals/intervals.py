"""How sure a mean is: percentile bootstrap intervals, of one run and of the difference of two on the same rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


RESAMPLES = 2000
CHUNK = 1 << 22  # numbers drawn at once


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `values` with its percentile bootstrap interval.

    groups: rows that hang together (questions about one picture, pictures of one entity) are drawn together; without
    it every row is drawn by itself. A draw of groups has the mean of all its rows. Seeded: the same numbers give the same
    interval. ValueError for no values, or groups of another number.
    """
    import numpy as np

    if not len(values):
        raise ValueError("no values: an interval needs at least one")
    sums, counts = _by_group(np.asarray(values, float), groups)
    draw = np.random.default_rng(seed)
    means = [_means(draw, sums, counts, size) for size in _chunks(resamples, len(sums))]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def paired_difference(
    ours: Sequence[float],
    theirs: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `ours - theirs`, row by row on the same rows, with its interval; beyond 0 means a difference. See `bootstrap`."""
    import numpy as np

    if len(ours) != len(theirs):
        raise ValueError(f"a paired difference needs the same rows twice, got {len(ours)} and {len(theirs)}")
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    return bootstrap(differences.tolist(), groups, level=level, resamples=resamples, seed=seed)


def _by_group(values: np.ndarray, groups: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """The sum and the number of rows of each group, groups in order of first appearance."""
    import numpy as np

    if groups is None:
        return values, np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values need a group each, got {len(groups)}")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(group, len(places)) for group in groups])
    return np.bincount(index, values), np.bincount(index).astype(float)


def _chunks(resamples: int, groups: int) -> list[int]:
    size = max(1, CHUNK // groups)
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _means(draw: np.random.Generator, sums: np.ndarray, counts: np.ndarray, resamples: int) -> np.ndarray:
    drawn = draw.integers(0, len(sums), (resamples, len(sums)))
    means: np.ndarray = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means
