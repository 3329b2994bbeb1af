"""What every reducer offers: the visual tokens of a film's frames -> fewer of them, and where each came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Seen(NamedTuple):
    """What else is known of T frames of N tokens, where the tower gives it.

    attention: [T, N], how much each token is attended to. keys: [T, N, d], what tokens are matched by. pixels: [T, C, H, W] as the tower
    got them. pooled: [T, d], one vector a frame.
    """

    attention: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    pixels: torch.Tensor | None = None
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Reduced:
    """K tokens of one film. features: [K, D]. positions: int64 [K, 3], frame, row and column of the source; a merged token's is that of
    its centre. weight: float [K], how many source tokens it stands for. Rows are in order of frame, row, column.

    Raises ValueError when the parts do not fit together.
    """

    features: torch.Tensor
    positions: torch.Tensor
    weight: torch.Tensor

    def __post_init__(self) -> None:
        count = self.features.shape[0]
        if self.features.ndim != 2 or self.positions.shape != (count, 3) or self.weight.shape != (count,):
            raise ValueError(
                f"features [K, D] need positions [K, 3] and weight [K], got {list(self.features.shape)}, {list(self.positions.shape)}, "
                f"{list(self.weight.shape)}"
            )

    @classmethod
    def of(cls, features: torch.Tensor, places: torch.Tensor, weight: torch.Tensor, grid: tuple[int, int]) -> Reduced:
        """From flat places (frame x rows x columns + row x columns + column) in any order."""
        order = torch.sort(places, stable=True).indices
        places = places[order]
        frame, inside = places // (grid[0] * grid[1]), places % (grid[0] * grid[1])
        positions = torch.stack([frame, inside // grid[1], inside % grid[1]], dim=1)
        return cls(features[order], positions, weight[order].float())

    @classmethod
    def picked(cls, features: torch.Tensor, places: torch.Tensor, grid: tuple[int, int]) -> Reduced:
        """Tokens of [T, N, D] as they are, at flat places."""
        return cls.of(features.flatten(0, 1)[places], places, torch.ones(len(places), device=places.device), grid)

    def counts(self, frames: int) -> list[int]:
        """How many tokens each of T frames has."""
        return torch.bincount(self.positions[:, 0], minlength=frames).tolist()

    def __repr__(self) -> str:
        return f"Reduced(features={list(self.features.shape)} {self.features.dtype}, frames={len(self.positions[:, 0].unique())})"


@dataclass(frozen=True)
class Reducer(ABC):
    """Maps the tokens [T, N, D] of one film's frames, which lie on a grid of rows x columns = N, to `Reduced`.

    Its fields are its options; ValueError at construction for ones that make no sense. Shapes are what they are at the call: any number
    of frames, any grid.
    """

    def __call__(
        self,
        features: torch.Tensor,
        grid: tuple[int, int],
        *,
        attention: torch.Tensor | None = None,
        keys: torch.Tensor | None = None,
        pixels: torch.Tensor | None = None,
        pooled: torch.Tensor | None = None,
    ) -> Reduced:
        """See `Seen` for the others. ValueError where shapes do not fit, or something is missing that this reducer needs."""
        seen = Seen(attention, keys, pixels, pooled)
        _check(features, grid, seen)
        for name in self.needs:
            if getattr(seen, name) is None:
                raise ValueError(f"{type(self).__name__} needs the {name} of the frames, and was given none: {NEEDS[name]}")
        return self.reduce(features, grid, seen)

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Seen` without which it cannot work."""
        return ()

    @property
    def uses(self) -> tuple[str, ...]:
        """The fields of `Seen` that it goes by where they are given."""
        return self.needs

    @abstractmethod
    def reduce(self, features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> Reduced:
        """`__call__` once everything is checked."""

    @abstractmethod
    def tokens_out(self, frames: int, grid: tuple[int, int]) -> list[int] | None:
        """How many tokens each frame will have, before anything runs; None where that depends on what is in the frames."""


NEEDS = {
    "attention": "a tower whose attention can be read gives it, or another reducer works without",
    "keys": "a tower whose attention can be read gives them",
    "pixels": "pass the pixels as the tower gets them",
    "pooled": "pass one vector a frame",
}


def check_positive(**options: float) -> None:
    """ValueError for an option that is not above zero."""
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} is above zero, got {value}")


def check_share(**options: float) -> None:
    """ValueError for an option that is no share of a whole."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a share between 0 and 1, got {value}")


def _check(features: torch.Tensor, grid: tuple[int, int], seen: Seen) -> None:
    if features.ndim != 3 or features.shape[1] != grid[0] * grid[1] or not features.shape[0]:
        raise ValueError(f"tokens of frames on a grid of {grid[0]} x {grid[1]} are [T, {grid[0] * grid[1]}, D], got {list(features.shape)}")
    frames = tuple(features.shape[:2])
    wanted = {"attention": (frames, 2), "keys": (frames, 3), "pixels": (frames[:1], 4), "pooled": (frames[:1], 2)}
    for name, (shape, ndim) in wanted.items():
        given = getattr(seen, name)
        if given is not None and (given.ndim != ndim or tuple(given.shape[: len(shape)]) != shape):
            raise ValueError(f"{name} of frames {list(frames)} begin with {list(shape)} and have {ndim} axes, got {list(given.shape)}")
