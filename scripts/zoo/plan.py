"""The stages of tiny-aitqe's training."""

from typing import NamedTuple


class Part(NamedTuple):
    """One stage: how many steps of how many pictures with how many captions each, at what rate.

    full: the share of pictures whose answers are whole JSON. lm: weight of the language-modelling loss; 0 trains the tower alone.
    """

    name: str
    steps: int
    pictures: int
    captions: int
    lr: float
    warmup: int
    decay: int
    full: float
    lm: float


PLAN = (
    Part("eyes", 700, 64, 0, 1e-3, 30, 0, 0.0, 0.0),
    Part("decide", 3400, 10, 4, 1e-3, 60, 0, 0.0, 1.0),
    Part("answer", 500, 10, 4, 7e-4, 30, 450, 0.35, 1.0),
)
