"""Best of N with a fake model and a fake reward."""

import math

import pytest

from data_tools.calls import Sampling
from data_tools.records import Response, Sample
from mm_align.search import SEARCHES, best_of_n
from mm_align.search.best_of_n import highest

SAMPLES = [Sample("s"), Sample("t")]


def generate(samples, sampling):
    return [Response(f"{s.id}:{j}", s.id, f"{s.id}{j}") for s in samples for j in range(sampling.n)]


def test_the_answer_that_the_reward_likes_best():
    rewards = {"s0": 0.1, "s1": 0.9, "s2": 0.9, "t0": math.nan, "t1": -math.inf, "t2": math.nan}
    choices = best_of_n(SAMPLES, generate, lambda _, pools: [[rewards[r.text] for r in p] for p in pools], Sampling(n=3, temperature=0.7))
    assert [choice.best.text for choice in choices] == ["s1", "t1"]
    assert [choice.sample_id for choice in choices] == ["s", "t"]
    assert choices[0].best_of(1).text == "s0"
    assert choices[1].best_of(1) is None
    assert [r.text for r in choices[0].candidates] == ["s0", "s1", "s2"]


def test_highest():
    assert highest([math.nan, 1, 2, 2]) == 2
    assert highest([math.nan]) is None
    assert highest([]) is None


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="temperature above 0"):
        best_of_n(SAMPLES, generate, lambda *_: [], Sampling(n=2))
    with pytest.raises(ValueError, match="1 answers to 2 samples, expected 2 to each"):
        best_of_n(SAMPLES, lambda s, _: generate(s[:1], Sampling()), lambda *_: [], Sampling(n=2, temperature=1))
    with pytest.raises(ValueError, match="2 answers to 2 samples, expected 1 to each"):
        best_of_n(SAMPLES, lambda s, g: generate(s, g)[::-1], lambda *_: [], Sampling())


def test_the_table():
    assert SEARCHES["best_of_n"] is best_of_n
