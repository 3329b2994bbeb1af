"""Which numbers of tokens a frame a pooling tower can give."""

from __future__ import annotations

from collections.abc import Iterable


def pooled(side: int) -> list[int]:
    """ceil(side / k)^2 for every k: what k x k pooling leaves of a square grid of `side` patches, rising; 27 gives 1, 4, 9, 16, 25, 36,
    49, 81, 196, 729."""
    if side < 1:
        raise ValueError(f"a grid has at least one patch a side, got {side}")
    return sorted({(-(-side // kernel)) ** 2 for kernel in range(1, side + 1)})


def listed(numbers: Iterable[int]) -> list[int]:
    """Any numbers, rising, none twice. Raises ValueError for none, or one below 1."""
    found = sorted(set(numbers))
    if not found or found[0] < 1:
        raise ValueError(f"tokens a frame are numbers from 1 on, got {found or 'none'}")
    return found


def snap(wanted: float, choices: Iterable[int]) -> int:
    """The choice nearest to `wanted` in ratio."""
    return min(choices, key=lambda one: max(one / wanted, wanted / one))
