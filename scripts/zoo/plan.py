"""The stages in which each model of the zoo is trained."""

from collections.abc import Mapping
from typing import NamedTuple

# Errors that need the picture are the hard part: they get more than their share while learning, single shapes most of all.
SHARES = {
    "wrong_object": 0.25, "wrong_color": 0.13, "wrong_count": 0.12, "wrong_relation": 0.13, "missing_detail": 0.11, "other_image": 0.08,
    "file_name": 0.025, "boilerplate": 0.035, "broken_grammar": 0.035, "repetition": 0.025, "empty": 0.01, "other_language": 0.05,
}  # fmt: skip
# What is still near chance after `decide`: which shape, and what is where.
HARD_SHARES = {
    "wrong_object": 0.34, "wrong_color": 0.09, "wrong_count": 0.12, "wrong_relation": 0.30, "missing_detail": 0.05, "other_image": 0.02,
    "file_name": 0.01, "boilerplate": 0.015, "broken_grammar": 0.02, "repetition": 0.01, "empty": 0.005, "other_language": 0.02,
}  # fmt: skip
# And after `bind`: how many there are, and what is not said.
COUNT_SHARES = {
    "wrong_object": 0.17, "wrong_color": 0.11, "wrong_count": 0.28, "wrong_relation": 0.17, "missing_detail": 0.18, "other_image": 0.02,
    "file_name": 0.01, "boilerplate": 0.01, "broken_grammar": 0.015, "repetition": 0.01, "empty": 0.005, "other_language": 0.02,
}  # fmt: skip
# The last stage, while the rate falls to zero: all that needs the picture, weighted by how hard it is.
LAST_SHARES = {
    "wrong_object": 0.23, "wrong_color": 0.11, "wrong_count": 0.16, "wrong_relation": 0.27, "missing_detail": 0.12, "other_image": 0.03,
    "file_name": 0.01, "boilerplate": 0.015, "broken_grammar": 0.015, "repetition": 0.01, "empty": 0.005, "other_language": 0.025,
}  # fmt: skip


class Part(NamedTuple):
    """One stage: how many steps of how many pictures with how many captions (or questions) each, at what rate.

    full: the share of pictures whose answers are whole JSON. lm: weight of the language-modelling loss; 0 trains the tower alone.
    shares: how often a poor caption has which damage. Both matter to tiny-aitqe alone. descriptions: of each picture, tiny-lvlm.
    """

    name: str
    steps: int
    pictures: int
    captions: int
    lr: float
    warmup: int
    decay: int
    full: float = 0.0
    lm: float = 1.0
    shares: Mapping[str, float] = SHARES
    descriptions: int = 2


AITQE = (
    Part("eyes", 700, 64, 0, 1e-3, 30, 0, 0.0, 0.0),
    Part("decide", 1800, 10, 4, 1e-3, 60, 0, 0.0, 1.0),
    Part("bind", 1600, 10, 4, 1e-3, 30, 0, 0.0, 1.0, HARD_SHARES),
    Part("count", 800, 10, 4, 1e-3, 30, 0, 0.0, 1.0, COUNT_SHARES),
    Part("answer", 900, 10, 4, 1e-3, 20, 860, 0.3, 1.0, LAST_SHARES),
)
LVLM = (
    Part("talk", 900, 12, 5, 1e-3, 60, 0),
    Part("settle", 1000, 12, 5, 1e-3, 20, 700),
    Part("habit", 400, 8, 4, 6e-4, 10, 360, descriptions=4),
    Part("insist", 160, 8, 3, 8e-4, 10, 120, descriptions=4),
)
JUDGE = (Part("judge", 640, 8, 7, 4e-4, 20, 540),)
