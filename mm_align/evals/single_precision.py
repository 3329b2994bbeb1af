"""Sums of single-precision numbers in the order in which torch adds them on a CPU: printed decimals can depend on the last bit."""

from __future__ import annotations

import numpy as np

LANES = 8  # of AVX2, which torch's sums use also where there is more
ROWS = 4  # sums that are kept side by side
LEVELS = 4


def torch_sum(values: np.ndarray) -> np.float32:
    """The sum of a vector, as `torch.sum` (`nansum`) of a contiguous float32 tensor below the size where threads share the work."""
    values = values.astype(np.float32)
    width = LANES if len(values) >= LANES else 1
    whole = len(values) // width
    lanes = _column_sums(values[: whole * width].reshape(whole, width))
    total = np.float32(0)
    for value in (*values[whole * width :], *lanes):
        total = np.float32(total + value)
    return total


def torch_nanmean(values: np.ndarray) -> float:
    """`torch.nanmean`: NaN where there is no number."""
    there = ~np.isnan(values)
    if not there.any():
        return float("nan")
    return float(np.float32(torch_sum(np.where(there, values, np.float32(0))) / np.float32(there.sum())))


def _column_sums(rows: np.ndarray) -> np.ndarray:
    """[n, lanes] -> [lanes]"""
    groups = len(rows) // ROWS
    sums = _cascade(rows[: groups * ROWS].reshape(groups, ROWS, rows.shape[1]))
    for row in rows[groups * ROWS :]:
        sums[0] += row
    for more in sums[1:]:
        sums[0] += more
    total: np.ndarray = sums[0].copy()
    return total


def _cascade(blocks: np.ndarray) -> np.ndarray:
    """[n, ROWS, lanes] -> [ROWS, lanes]: sums of steps, sums of those, and so on."""
    size = len(blocks)
    power = max(4, max(1, (size - 1).bit_length()) // LEVELS)
    step = 1 << power
    sums = np.zeros((LEVELS, *blocks.shape[1:]), np.float32)
    at = 0
    while at + step <= size:
        sums[0] += np.add.reduce(blocks[at : at + step], axis=0)
        at += step
        for level in range(1, LEVELS):
            sums[level] += sums[level - 1]
            sums[level - 1] = 0
            if at & ((step - 1) << (level * power)):
                break
    for block in blocks[at:]:
        sums[0] += block
    for level in range(1, LEVELS):
        sums[0] += sums[level]
    total: np.ndarray = sums[0]
    return total
