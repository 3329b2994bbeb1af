"""Pairs by the implicit reward, worked out by hand."""

import math

import pytest

from data_tools.records import PreferencePair, Response, Sample
from mm_align.rlaif.implicit import ImplicitPairs, Ranked, balanced, jaccard, ngrams, without_alike

SAMPLE = Sample("s")


def words(n: int, of: str = "w") -> str:
    return " ".join(f"{of}{i}" for i in range(n))


def pairs(rated: dict[str, tuple[float, int]], **options) -> list[tuple[str, str]]:
    pool = [Response(f"r{i}", "s", text) for i, text in enumerate(rated)]
    found = ImplicitPairs(**({"longer": 99} | options))([SAMPLE], [pool], lambda *_: [list(rated.values())])
    return [(pair.chosen, pair.rejected) for pair in found]


def test_chosen_are_among_the_best_by_sum_and_by_average():
    """Sums: a 8, b 6, c 1, d -4, e -6, f -9. Averages: a 2, b 0.6, c 1, d -2, e -0.6, f -9.

    Best two by sum a b, by average a c: a. Worst two by sum e f, by average d f: f.
    """
    rated = {"a": (8, 4), "b": (6, 10), "c": (1, 1), "d": (-4, 2), "e": (-6, 10), "f": (-9, 1)}
    assert pairs(rated, top=2) == [("a", "f")]


def test_all_that_match_in_length_or_one_by_one_in_rank():
    """With the best and worst three of six everything is in both; lengths differ by 0 to 5 words."""
    rated = {words(6 - i, f"t{i}"): (3.0 - i, 1) for i in range(6)}
    names = list(rated)
    assert pairs(rated, strict_rank=True) == list(zip(names[:3], names[3:], strict=True))
    assert set(pairs(rated, a_row=9)) == {(a, b) for a in names[:3] for b in names[3:]}
    assert len(pairs(rated)) == 3
    assert pairs(rated) == pairs(rated) != pairs(rated, seed=1)
    assert set(pairs(rated, distance=2, a_row=9)) == {(names[2], names[3])}


def test_answers_alike_count_once():
    """Eleven words have two 10-grams. One changed last word shares one of three: 1/3. The same words again: 1."""
    a, b = words(11), f"{words(10)} other"
    assert jaccard(ngrams(a), ngrams(b)) == pytest.approx(1 / 3)
    ranked = [Ranked(text, 0, 0) for text in (a, b, f"{a}!", "too short", "too short.")]
    assert [one.text for one in without_alike(ranked, 0.9)] == [a, b, "too short", "too short."]
    assert [one.text for one in without_alike(ranked, 0.3)] == [a, "too short", "too short."]


def test_an_answer_is_never_its_own_rival():
    assert pairs({"a": (1, 1)}) == []
    assert pairs({"a": (1, 1), "b": (1, 1)}) == []
    assert pairs({"a": (2, 1), "b": (1, 1)}) == [("a", "b")]
    assert pairs({"a": (math.nan, 1), "b": (1, 1), "": (0, 0), "c": (-math.inf, 2)}) == []


def test_the_longest_chosen_go_until_lengths_are_alike():
    """Chosen minus rejected: 4, 0, 1, 0. Mean 1.25 > 0.5; without the 4 it is 1/3."""
    made = [PreferencePair(SAMPLE, words(2 + more), words(2)) for more in (4, 0, 1, 0)]
    assert balanced(made, 0.5) == made[1:]
    assert balanced(made[:1], 0.5) == []
    assert balanced([], 0.5) == []
