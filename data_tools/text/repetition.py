"""How much a text repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

from .words import words

_SPAN = 3


def repetition(text: str) -> float:
    """Share of three-word windows that were already seen in the text: 0 = none, towards 1 = a loop; 0 below six words.

    A decoder's loop ("red circle red circle red circle") gives 0.5 or more, a list of templated sentences about 0.3 at most.
    This toolkit's choice.
    """
    return repeated(words(text))


def repeated(spoken: Sequence[str]) -> float:
    """`repetition` of a text that is cut into words already."""
    if len(spoken) < 2 * _SPAN:
        return 0.0
    windows = list(zip(*(spoken[i:] for i in range(_SPAN)), strict=False))
    return 1 - len(set(windows)) / len(windows)
