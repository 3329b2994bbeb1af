"""The bounded sketches against numbers worked out by hand or by exact counting."""

import json
import math
import random

import numpy as np
import pytest

from data_tools.report.sketches import (
    DistinctCount,
    Histogram,
    KeyCounter,
    Reservoir,
    TextSketch,
    hash64,
    jensen_shannon,
    length_bin,
    words_of,
)


def sketch_of(*texts):
    out = TextSketch()
    for text in texts:
        out.add(text, words_of(text))
    return out


def test_words_ignore_case_and_punctuation():
    assert words_of("A Dog's RED ball, 2 balls!") == ["a", "dog's", "red", "ball", "2", "balls"]


def test_quantiles_by_nearest_rank():
    """Of 1, 2, 2, 9 the median is the 2nd smallest (2) and the 95th percentile the 4th (ceil(3.8)): 9. Mean 14 / 4."""
    h = Histogram()
    for n in (9, 2, 1, 2):
        h.add(length_bin(n), n)
    assert (h.quantile(0.5), h.quantile(0.95), h.total / h.count) == (2, 9, 3.5)
    assert Histogram().quantile(0.5) is None


@pytest.mark.parametrize("n", [4097, 5000, 99_999, 10**7])
def test_long_lengths_lose_at_most_a_sixteenth_of_an_octave(n):
    assert n / 2 ** (1 / 16) - 1 <= length_bin(n) <= n


def test_lengths_are_exact_up_to_4096():
    assert [length_bin(n) for n in (0, 1, 4095, 4096)] == [0, 1, 4095, 4096]


@pytest.mark.parametrize("n", [1, 100, 5_000, 60_000, 1_000_000])
def test_distinct_count_is_within_three_standard_errors(n):
    counter = DistinctCount()
    hashes = np.random.default_rng(n).integers(0, 2**64, n, np.uint64)
    counter.add(hashes)
    counter.add(hashes[: n // 2])  # seen twice changes nothing
    assert counter.estimate() == pytest.approx(n, rel=3 * 0.0082)
    again = DistinctCount.from_dict(json.loads(json.dumps(counter.to_dict())))
    assert again.estimate() == counter.estimate()


def test_no_hash_is_no_count():
    assert DistinctCount().estimate() == 0.0


def test_distinct_n_by_hand():
    """`a b a b` and `a`: 5 words of which 2 differ; pairs ab, ba, ab: 2 of 3 differ; no pair spans two texts."""
    sketch = sketch_of("a b a b", "a")
    assert sketch.distinct(1) == pytest.approx(2 / 5, rel=1e-3)
    assert sketch.distinct(2) == pytest.approx(2 / 3, rel=1e-3)
    assert sketch_of("", "...").distinct(1) is None


def test_jensen_shannon_by_hand():
    """p = (1/2, 1/2, 0), q = (1/2, 0, 1/2): m = (1/2, 1/4, 1/4); KL(p|m) = KL(q|m) = 1/2 * log2(2) = 1/2."""
    assert jensen_shannon(sketch_of("cat dog"), sketch_of("cat sun")) == pytest.approx(0.5)
    assert jensen_shannon(sketch_of("cat dog"), sketch_of("dog cat dog cat")) == pytest.approx(0.0, abs=1e-12)
    assert jensen_shannon(sketch_of("cat"), sketch_of("sun")) == pytest.approx(1.0)
    assert jensen_shannon(sketch_of("cat"), sketch_of("")) is None


def test_one_huge_text_is_counted_in_full_but_sketched_in_part():
    sketch = sketch_of("word " * 10_000)
    assert sketch.lengths.total == 10_000
    sketch.flush()
    assert sketch.unigram_total == 4096


def test_state_does_not_depend_on_flushes():
    """Flushed after every text or once at the end: the same state."""
    texts = [f"word{i % 7} other{i % 3} tail" for i in range(200)]
    once, often = sketch_of(*texts), TextSketch()
    for text in texts:
        often.add(text, words_of(text))
        often.flush()
    assert once.to_dict() == often.to_dict()


def test_surrogates_have_a_hash():
    assert hash64("\ud83d") != hash64("")


def test_key_counter_is_exact_below_its_cap_and_mergeable_above():
    """300 keys, key i seen i + 1 times: 300 * 301 / 2 = 45,150 in all, whatever the order; the kept ones are exact."""
    keys = [f"k{i}" for i in range(300) for _ in range(i + 1)]
    random.Random(0).shuffle(keys)
    whole, left, right = KeyCounter(16), KeyCounter(16), KeyCounter(16)
    for i, key in enumerate(keys):
        whole.add(key)
        (left if i % 3 else right).add(key)
    left.merge(right)
    assert left.to_dict() == whole.to_dict() == KeyCounter.from_dict(whole.to_dict(), 16).to_dict()
    assert whole.total == 45_150
    assert len(whole.counts) == 16
    assert all(n == int(key[1:]) + 1 for key, n in whole.counts.items())
    assert whole.other == 45_150 - sum(whole.counts.values())


def test_reservoir_keeps_the_smallest_and_makes_only_what_it_admits():
    made = []
    reservoir = Reservoir(3)
    for n in (5, 1, 4, 9, 2, 8):
        reservoir.offer((0.0, n, "s", n), lambda n=n: made.append(n) or n)
    assert [item for _, item in reservoir.items] == [1, 2, 4]
    assert made == [5, 1, 4, 2]


def test_reservoir_is_uniform_over_rows():
    """100 of 2,000 rows by hash, first half against second: 50 expected, standard deviation about 4.9."""
    reservoir = Reservoir(100)
    for row in range(2000):
        reservoir.offer((0.0, hash64(f"0\0s\0{row}"), "s", row), lambda row=row: row)
    assert abs(sum(row < 1000 for _, row in reservoir.items) - 50) < 4 * math.sqrt(25)
