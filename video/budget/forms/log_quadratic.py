"""A parabola in ln T and ln M: no law, a local picture, which can show that more frames or tokens hurt."""

from __future__ import annotations

from .polynomial import Polynomial


class LogQuadratic(Polynomial):
    """c + t ln T + m ln M + tt ln^2 T + tm ln T ln M + mm ln^2 M."""

    def __init__(self) -> None:
        formula = "c + t ln T + m ln M + tt (ln T)^2 + tm ln T ln M + mm (ln M)^2"
        super().__init__("log_quadratic", formula, c=(0, 0), t=(1, 0), m=(0, 1), tt=(2, 0), tm=(1, 1), mm=(0, 2))
