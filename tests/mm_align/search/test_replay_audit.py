"""The replay audit by hand: which changes flip which winners, and that models are asked once."""

import math

import pytest

from data_tools.records import Response, Sample
from mm_align.rewards import ImplicitReward, LikelihoodReward
from mm_align.search.replay_audit import AS_IT_IS, Change, Remembered, changed, changes, replay_audit

TOKENS = {"short": (-1.0, -1.0), "long": (-0.5,) * 6, "same": (-9.0,)}


class Model:
    """Log-probabilities by text, divided by the temperature; counts its calls."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.calls = shift, 0

    def __call__(self, samples, continuations, *, ended=False, temperature=1.0):
        self.calls += 1
        return [[tuple((value + self.shift) / temperature for value in TOKENS[text]) for text in texts] for texts in continuations]


def pool(*texts: str) -> list[Response]:
    return [Response(f"r{i}", "s", text) for i, text in enumerate(texts)]


def test_flips_by_hand():
    """By length: short -1, long -0.5: long wins. Not divided: short -2, long -3: short wins, a flip. Temperature changes no order here.

    The pool of equal answers cannot flip and is left out.
    """
    model = Model()
    selectors = {"likelihood": lambda change: LikelihoodReward(changed(model, change), normalise=change.normalise)}
    under = [Change("warm", temperature=2), Change("whole", normalise=False)]
    flips = replay_audit([Sample("s"), Sample("t")], [pool("short", "long"), pool("same", "same")], selectors, under)
    assert [(f.selector, f.change, f.flipped, f.rate) for f in flips] == [
        ("likelihood", "warm", (False,), 0.0),
        ("likelihood", "whole", (True,), 1.0),
    ]
    assert replay_audit([], [], selectors, under)[0].rate == 0


def test_models_are_asked_once_a_temperature():
    policy, reference = Model(0.1), Model()
    known = [Remembered(model) for model in (policy, reference)]

    def implicit(change):
        return ImplicitReward(*(changed(model, change) for model in known), normalise=change.normalise)

    under = changes(temperatures=[0.5], seeds=4)
    assert [change.name for change in under] == [
        "temperature 0.5", *(f"90% of the tokens, draw {i}" for i in range(4)), "not divided by length",
    ]  # fmt: skip
    replay_audit([Sample("s")], [pool("short", "long")], {"implicit": implicit}, under)
    assert (policy.calls, reference.calls) == (2, 2)


def test_a_subset_is_the_same_for_both_models_and_keeps_the_last_token():
    change = Change("half", keep=0.5, seed=1)
    first, second = (changed(Model(shift), change)([Sample("s")], [["long"]])[0][0] for shift in (0.0, 1.0))
    assert 1 <= len(first) == len(second) < 6
    assert changed(Model(), Change("none", keep=0))([Sample("s")], [["long"]])[0][0] == (-0.5,)
    assert changed(Model(), AS_IT_IS)([Sample("s")], [["long"]])[0][0] == TOKENS["long"]
    assert second == pytest.approx([value + 1 for value in first])


def test_a_winner_that_is_lost_is_a_flip():
    def selector(change):
        return lambda samples, pools: [[math.nan if change is not AS_IT_IS else float(i) for i, _ in enumerate(p)] for p in pools]

    (flips,) = replay_audit([Sample("s")], [pool("short", "long")], {"x": selector}, [Change("broken")])
    assert flips.flipped == (True,)
