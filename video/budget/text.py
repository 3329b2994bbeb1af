"""How many text tokens a prompt spends on T frames: a number a frame, or what a tokenizer makes of the time stamps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

TextOf = Callable[[int], int]  # frames -> text tokens of the whole prompt


def flat(a_frame: float = 0.0, rest: int = 0) -> TextOf:
    """`a_frame` tokens a frame and `rest` for the question, the template and the answer. Raises ValueError for negative ones."""
    if not (math.isfinite(a_frame) and a_frame >= 0) or rest < 0:
        raise ValueError(f"text tokens are numbers from 0 on, got {a_frame} a frame and {rest} besides")
    return lambda frames: math.ceil(frames * a_frame - 1e-9) + rest


def counted(pieces_of: Callable[[int], Iterable[str]], count: Callable[[list[str]], int], rest: int = 0) -> TextOf:
    """What a tokenizer makes of the real text.

    pieces_of: the text of a prompt of T frames, cut where the frames stand: what is between two frames is one piece, as the tokenizer
    sees it, since a frame's own tokens are no text. count: tokens of such pieces.
    """

    @cache
    def tokens(frames: int) -> int:
        return count([piece for piece in pieces_of(frames) if piece]) + rest

    return tokens
