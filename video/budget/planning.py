"""From limits and a film to a plan: whole frames, tokens that the tower can give, counted text, what it costs and what is as good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..clip import FramePlan
from .law import Law
from .optimum import REACH, Limit, Optimum, Refused, optimum
from .text import TextOf

RULE = (120, 49)  # frames and tokens a frame of Opt-Visor's released checkpoint, the one such point of its paper that can be checked
RULE_TOLD = (
    f"rule of thumb, no law: {RULE[0]} frames to {RULE[1]} tokens a frame, the split of Opt-Visor's released checkpoint, both growing "
    "with the root of the budget; fit a law to runs of your own for more than that"
)


class Near(NamedTuple):
    """With `tokens` a frame, this many frames are as good as the best within eps; `value`: the metric with the most of them."""

    tokens: int
    least_frames: int
    most_frames: int
    value: float | None


class Planned(NamedTuple):
    """A plan and its reasons.

    optimum: the law's real numbers, None without a law. value: the metric that the law predicts. near: what is within `eps` of it.
    gains: what one frame more and one token a frame more would change the metric by. spent: each limit's unit, what the plan takes of it.
    """

    plan: FramePlan
    optimum: Optimum | None
    value: float | None
    near: list[Near]
    eps: float | None
    gains: dict[str, float]
    spent: dict[str, float]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "plan": self.plan.to_dict(),
            "optimum": self.optimum.to_dict() if self.optimum else None,
            "value": self.value,
            "near": [one._asdict() for one in self.near],
            "eps": self.eps,
            "gains": self.gains,
            "spent": self.spent,
            "warnings": self.warnings,
        }


class Footage(NamedTuple):
    """What planning needs of a film: its visible frames, and their places and times by a rule when T are wanted."""

    n_frames: int
    indices_of: Callable[[int], np.ndarray]
    times: np.ndarray


class Wishes(NamedTuple):
    """What a plan must keep to. choices: tokens a frame that can be had. multiple: of frames. eps: how much worse is as good (default: the
    law's noise). trained: frames and tokens that the model was trained with."""

    choices: Sequence[int]
    multiple: int = 1
    least_frames: int = 1
    most_frames: int | None = None
    eps: float | None = None
    trained: tuple[int, int] | None = None


def plan(film: Footage, limits: Sequence[Limit], text: TextOf, wishes: Wishes, law: Law | None = None) -> Planned:
    """The best frames and tokens within all limits, by the law, or by the rule of thumb without one.

    Raises ValueError where nothing fits, and Refused where the law says nothing about this budget.
    """
    most = _most_frames(film, limits, text, wishes)
    best = _real(law, film, limits, text) if law else None
    allowed = _allowed(law, wishes, most)
    losses = {tokens: _loss(law, frames, tokens) for tokens, frames in allowed.items()}
    tokens = min(losses, key=lambda m: (float(losses[m].min()), m))
    frames = int(allowed[tokens][losses[tokens].argmin()])
    least = float(losses[tokens].min())
    eps = None if law is None else law.noise if wishes.eps is None else wishes.eps
    chosen = film.indices_of(frames)
    chosen_plan = FramePlan(
        times=tuple(float(time) for time in film.times[chosen]),
        tokens_a_frame=tokens,
        visual_tokens=frames * tokens,
        text_tokens=text(frames),
        reason=_reason(law, best, frames, tokens, film),
        indices=tuple(int(i) for i in chosen),
    )
    return Planned(
        chosen_plan,
        best,
        law.sign * least if law else None,
        _near(law, allowed, losses, least, eps) if law else [],
        eps,
        _gains(law, frames, tokens) if law else {},
        {limit.cost.unit: float(limit.cost.of(frames, chosen_plan.total)) for limit in limits},
        _warnings(law, film, wishes, frames, tokens),
    )


# What fits


def _most_frames(film: Footage, limits: Sequence[Limit], text: TextOf, wishes: Wishes) -> dict[int, int]:
    """For each number of tokens, the most frames that fit everything; those with which none does are left out."""
    cap = min(film.n_frames, wishes.most_frames or film.n_frames)
    if wishes.least_frames > cap:
        raise ValueError(f"{wishes.least_frames} frames were asked for and there are {cap}")
    found = {tokens: _most(tokens, cap // wishes.multiple, wishes.multiple, limits, text) for tokens in wishes.choices}
    fitting = {tokens: frames for tokens, frames in found.items() if frames >= max(1, wishes.least_frames)}
    if not fitting:
        frames, tokens = max(wishes.multiple, wishes.least_frames), min(wishes.choices)
        needed = text(frames) + frames * tokens if frames <= film.n_frames else 0
        told = "; ".join(f"{limit.cost.of(frames, needed):g} {limit.cost.unit} of {limit.most:g}" for limit in limits)
        if wishes.multiple > cap:
            raise ValueError(f"frames come in multiples of {wishes.multiple} and there are {cap}")
        raise ValueError(
            f"{frames} frame{'s' if frames > 1 else ''} of {tokens} token{'s' if tokens > 1 else ''}, the least there can be, take {told}"
        )
    return fitting


def _most(tokens: int, steps: int, multiple: int, limits: Sequence[Limit], text: TextOf) -> int:
    """By halving: what T frames take rises with T."""
    without_text = min(float(limit.cost.most_frames(tokens, limit.most)) for limit in limits)
    low, high = 0, max(0, min(steps, int(without_text + 1e-6) // multiple))
    while low < high:
        middle = (low + high + 1) // 2
        frames = middle * multiple
        positions = frames * tokens + text(frames)
        fits = all(limit.cost.of(frames, positions) <= limit.most * (1 + 1e-12) for limit in limits)
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * multiple


def _allowed(law: Law | None, wishes: Wishes, most: dict[int, int]) -> dict[int, np.ndarray]:
    """For each number of tokens the frames to choose among: all that fit, within reach of the law's runs."""
    step, reach = wishes.multiple, REACH if law and law.shape.extrapolates else 1.0
    found = {}
    for tokens, frames in most.items():
        every = np.arange(-(-max(1, wishes.least_frames) // step) * step, frames + 1, step)
        if law and law.shape.one_budget:
            every = every[-1:]  # it compares splits of one budget, not budgets
        if law:
            (least_t, most_t), (least_m, most_m) = law.covered.frames, law.covered.tokens
            every = every[(every <= most_t * reach) & (every >= least_t / reach) & law.holds_at(every, tokens)]
            if not least_m / reach <= tokens <= most_m * reach:
                continue
        if len(every):
            found[tokens] = every
    if not found:
        assert law is not None  # without one nothing is taken away
        raise Refused(f"no frames and tokens that fit are within reach of the law's runs ({law.covered.told()})")
    return found


# What is best


def _real(law: Law, film: Footage, limits: Sequence[Limit], text: TextOf) -> Optimum:
    """The law's optimum in real numbers, with the text a frame of a plan of usual length."""
    usual = min(film.n_frames, RULE[0])
    rest = text(0)
    each = (text(usual) - rest) / usual
    return optimum(law, [Limit(replace(limit.cost, text_a_frame=each, text=rest), limit.most) for limit in limits])


def _loss(law: Law | None, frames: np.ndarray, tokens: int) -> np.ndarray:
    if law:
        return law.loss(frames, tokens)
    return (frames / RULE[0]) ** -0.5 + np.full(len(frames), tokens / RULE[1]) ** -0.5


def _near(law: Law, allowed: dict[int, np.ndarray], losses: dict[int, np.ndarray], least: float, eps: float | None) -> list[Near]:
    found = []
    for tokens in sorted(allowed):
        good = allowed[tokens][losses[tokens] <= least + (eps or 0.0) + 1e-12]
        if len(good):
            found.append(Near(tokens, int(good[0]), int(good[-1]), float(law.value(good[-1], tokens))))
    return found


def _gains(law: Law, frames: int, tokens: int) -> dict[str, float]:
    here = float(law.value(frames, tokens))
    return {
        "one_frame_more": float(law.value(frames + 1, tokens)) - here,
        "one_token_a_frame_more": float(law.value(frames, tokens + 1)) - here,
    }


# What is said


def _reason(law: Law | None, best: Optimum | None, frames: int, tokens: int, film: Footage) -> str:
    if law is None or best is None:
        return RULE_TOLD
    (low, high), (low_m, high_m) = best.frames_interval, best.tokens_interval
    told = (
        f"law {law.form} of {law.covered.runs} runs: optimum {best.frames:.0f} frames [{low:.0f}, {high:.0f}] of {best.tokens:.0f} tokens "
        f"[{low_m:.0f}, {high_m:.0f}], 90 % intervals"
    )
    return f"{told}; the film has {film.n_frames} frames" if frames == film.n_frames and frames < best.frames else told


def _warnings(law: Law | None, film: Footage, wishes: Wishes, frames: int, tokens: int) -> list[str]:
    told = law.beyond(frames, tokens) if law else []
    if frames == film.n_frames and tokens == max(wishes.choices):
        told.append("the whole film fits at the most tokens a frame: the budget is not used up")
    if wishes.trained and wishes.trained != (frames, tokens):
        told.append(
            "the model was trained with {} frames of {} tokens: another split when it is asked is another matter".format(*wishes.trained)
        )
    return told
