"""Which settings to train, for a number of runs: a grid, two sweeps with points off them, or one budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from .realisable import snap

Kind = Literal["grid", "sweeps", "budget"]
LEAST = {"grid": 9, "sweeps": 9, "budget": 5}
OFF = 3  # settings off the two sweeps: fewer cannot show whether frames and tokens help each other
NOTES = {
    "grid": "every number of frames with every number of tokens: shows the additive law, an interaction, and its own misfit",
    "sweeps": f"frames at one number of tokens, tokens at one number of frames, and {OFF} settings off both: the cheapest that can show an "
    "interaction",
    "budget": "splits of one budget: places the optimum of this budget with fewest runs, and says nothing of any other",
}


class Setting(NamedTuple):
    """Frames and tokens a frame of a run to do."""

    frames: int
    tokens: int


def suggest(
    runs: int, frames: tuple[int, int], choices: Sequence[int], *, kind: Kind | None = None, budget: int | None = None, multiple: int = 1
) -> tuple[Kind, list[Setting]]:
    """Settings for `runs` runs, different ones, rising.

    frames: least and most to try. choices: tokens a frame that can be had; their ends are tried. kind: default the grid where there are
    runs for 4 x 4, one budget where there are fewer than 9, else the sweeps. budget: T x M of the kind "budget". What is left over is for
    repeats: they tell the noise.

    Raises ValueError for too few runs, or ranges that leave too few different settings.
    """
    if kind is None:
        kind = "grid" if runs >= 16 else "sweeps" if runs >= LEAST["sweeps"] else "budget"
    if runs < LEAST[kind]:
        raise ValueError(f"a design of kind {kind!r} takes at least {LEAST[kind]} runs, got {runs}")
    if not 1 <= frames[0] < frames[1]:
        raise ValueError(f"frames to try are from a least to a greater most, got {frames[0]} to {frames[1]}")
    if kind == "budget":
        return kind, _budget(runs, frames, choices, budget, multiple)
    return kind, _grid(runs, frames, choices, multiple) if kind == "grid" else _sweeps(runs, frames, choices, multiple)


def _grid(runs: int, frames: tuple[int, int], choices: Sequence[int], multiple: int) -> list[Setting]:
    """The grid nearest to square: rows x columns <= runs."""
    columns = math.isqrt(runs)
    tokens = _spaced_choices(choices, columns)
    times = _spaced(frames, runs // len(tokens), multiple)
    return _enough([Setting(t, m) for t in times for m in tokens], times, tokens)


def _sweeps(runs: int, frames: tuple[int, int], choices: Sequence[int], multiple: int) -> list[Setting]:
    """Both sweeps cross in the middle; the settings off them are corners of what is swept, where an interaction is greatest."""
    each = min((runs - OFF + 1) // 2, len(choices))
    times, tokens = _spaced(frames, runs - OFF + 1 - each, multiple), _spaced_choices(choices, each)
    middle = Setting(times[len(times) // 2], tokens[len(tokens) // 2])
    cross = {Setting(t, middle.tokens) for t in times} | {Setting(middle.frames, m) for m in tokens}
    off = [Setting(times[0], tokens[0]), Setting(times[-1], tokens[-1]), Setting(times[-1], tokens[0])]
    return _enough(sorted(cross | set(off)), times, tokens)


def _budget(runs: int, frames: tuple[int, int], choices: Sequence[int], budget: int | None, multiple: int) -> list[Setting]:
    if budget is None:
        raise ValueError("a design of kind 'budget' needs the budget T x M that it splits")
    splits = {
        tokens: budget // tokens // multiple * multiple
        for tokens in choices
        if frames[0] <= budget // tokens // multiple * multiple <= frames[1]
    }
    # a whole number of frames far below budget / tokens is another budget
    good = [tokens for tokens, t in splits.items() if t * tokens >= 0.93 * budget]
    kept = [good[i] for i in np.unique(np.linspace(0, len(good) - 1, min(runs, len(good))).round().astype(int))] if good else []
    if len(kept) < 4:
        raise ValueError(
            f"{budget} = T x M with {frames[0]} to {frames[1]} frames leaves {len(kept)} splits of the tokens that can be had "
            f"({', '.join(map(str, choices))}); at least 4 are needed: widen the frames or list other tokens"
        )
    return sorted(Setting(splits[tokens], tokens) for tokens in kept)


def _spaced(ends: tuple[int, int], count: int, multiple: int) -> list[int]:
    """`count` numbers at equal ratios."""
    real = np.exp(np.linspace(math.log(ends[0]), math.log(ends[1]), count))
    return sorted({max(multiple, round(value / multiple) * multiple) for value in real})


def _spaced_choices(choices: Sequence[int], count: int) -> list[int]:
    """`count` of the choices, as nearly at equal ratios as they allow."""
    if len(choices) <= count:
        return sorted(choices)
    found = {snap(value, choices) for value in np.exp(np.linspace(math.log(min(choices)), math.log(max(choices)), count))}
    spare = sorted(set(choices) - found, key=lambda one: -min(abs(math.log(one / other)) for other in found))
    return sorted([*found, *spare[: count - len(found)]])


def _enough(settings: list[Setting], times: list[int], tokens: list[int]) -> list[Setting]:
    for what, found in (("frames", times), ("tokens a frame", tokens)):
        if len(found) < 3:
            raise ValueError(
                f"only {len(found)} different numbers of {what} can be tried ({', '.join(map(str, found))}); at least 3 show a bend"
            )
    return settings
