"""E + A T^-a + B M^-b: what frames and what tokens save do not depend on each other."""

from __future__ import annotations

from .base import Axis
from .powers import PowerLaw, Term

FRAMES = Term("A", frames="a")
TOKENS = Term("B", tokens="b")


class Additive(PowerLaw):
    """Opt-Visor's law as far as its text was at hand; whether its fitted forms carry one or two irreducible terms is not known."""

    def __init__(self) -> None:
        super().__init__("additive", FRAMES, TOKENS)

    def without(self, axis: Axis) -> PowerLaw:
        return one_axis("tokens" if axis == "frames" else "frames")


class OneAxis(PowerLaw):
    """A slice: E + A T^-a at some M, or E + B M^-b at some T."""

    def without(self, axis: Axis) -> PowerLaw:
        raise ValueError(f"{self.formula} has a single axis")


def one_axis(axis: Axis) -> OneAxis:
    """The law when only `axis` makes a difference."""
    return OneAxis(f"{axis} alone", FRAMES if axis == "frames" else TOKENS)
