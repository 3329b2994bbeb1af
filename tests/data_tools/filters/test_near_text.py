"""Near captions: estimates against the sets themselves, and the index against comparing all with all."""

import random

import numpy as np
import pytest

from data_tools.filters import near_text
from data_tools.filters.near_text import NearTextSignals, Repeats, sketch
from data_tools.records import Sample

SPOKEN = "a the dog cat house tree runs sits red blue old small under over near with two three river boat man woman child street"
WORDS = SPOKEN.split()


def sentences(n, seed=0, length=(8, 20)):
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(*length))) for _ in range(n)]


def likeness(a, b):
    """The Jaccard index that is estimated."""
    one, other = ({text[i : i + 5] for i in range(max(1, len(text) - 4))} for text in (a, b))
    return len(one & other) / len(one | other)


def brute(sketches, agree):
    told = []
    for i, row in enumerate(sketches):
        near = [j for j in range(i) if told[j] < 0 and (row == sketches[j]).sum() >= agree and row.any() and sketches[j].any()]
        told.append(near[0] if near else -1)
    return told


def changed(texts, seed):
    """Each with one or two words replaced."""
    rng, out = random.Random(seed), []
    for text in texts:
        spoken = text.split()
        for _ in range(rng.randint(1, 2)):
            spoken[rng.randrange(len(spoken))] = rng.choice(WORDS)
        out.append(" ".join(spoken))
    return out


def test_minima_estimate_the_jaccard_index():
    texts = sentences(300)
    pairs = list(zip(texts, changed(texts, 1), strict=True))
    one, other = sketch([a for a, _ in pairs]), sketch([b for _, b in pairs])
    errors = (one == other).mean(axis=1) - [likeness(a, b) for a, b in pairs]
    assert abs(errors.mean()) < 0.01
    assert errors.std() < 0.065  # sqrt(0.25 / 64) at most


def test_a_text_has_the_same_sketch_in_any_company():
    texts = [*sentences(20), "a", "ab", "abcde", "x" * 300]
    assert np.array_equal(sketch(texts), np.concatenate([sketch([text]) for text in texts]))


@pytest.mark.parametrize("block", [7, 64, 1024])
def test_the_index_finds_what_comparing_all_with_all_finds(monkeypatch, block):
    """Above the threshold a pair that shares no band is one in four thousand; with this seed there is none."""
    monkeypatch.setattr(near_text, "BLOCK", block)
    base = sentences(150)
    texts = [*base, *changed(base, 1), *changed(base[:50], 2), *base[:20]]
    random.Random(3).shuffle(texts)
    sketches = sketch(texts)
    sketches[[5, 90]] = 0
    told = Repeats(0.8).of(sketches).tolist()
    assert told == brute(sketches, 52)
    assert sum(row >= 0 for row in told) > 50
    assert told[5] == told[90] == -1


def test_what_repeats_stands_for_none():
    """A ~ B ~ C whose ends differ: B repeats A, and C, though like B, repeats nothing."""
    a = np.arange(1, 65, dtype="<u2")
    b, c = a.copy(), a.copy()
    b[:12] = 1000
    c[:12] = 1000
    c[52:] = 2000
    assert Repeats(0.8).of(np.stack([a, b, c])).tolist() == [-1, 0, -1]


def test_case_and_punctuation_say_nothing_and_no_caption_repeats_nothing():
    captions = ["A red dog runs, fast!", "a red  dog runs fast", "...", None, "!!!", "a blue cat sits near the river"]
    one = NearTextSignals()
    told = one([Sample(str(i), caption=caption) for i, caption in enumerate(captions)])
    assert one.compare(one.pack(told))["near_text.repeats"].tolist() == [-1, 0, -1, -1, -1, -1]


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        NearTextSignals(threshold=threshold)
