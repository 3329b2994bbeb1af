"""Selectors against their sources (digests of the peers' own code), against plain loops, and on scores that tell nothing."""

import numpy as np
import pytest

from video.frames import SELECTORS, Candidates, colours, select
from video.frames.base import spread_order


def scores(seed, count=500):
    return np.random.RandomState(seed).rand(count) ** (1, 4, 20, 60)[seed % 4]


def embedded(seed, count=96, width=16):
    """Scenes of eight frames with noise, and a query; unit length."""
    random = np.random.RandomState(seed)
    scenes = random.randn(count // 8 + 1, width)
    frames = scenes[np.arange(count) // 8] + 0.5 * random.randn(count, width)
    query = random.randn(width)
    return frames / np.linalg.norm(frames, axis=1, keepdims=True), query / np.linalg.norm(query)


# -- the peers' methods ------------------------------------------------------------------------------------------------


def test_aks_is_the_released_code_where_its_quotas_are_whole(fingerprint):
    """40 rows of scores through ncTimTang/AKS, for 32, 64 and 128 frames."""
    found = [select(Candidates.known(scores=scores(seed)), "aks", n) for seed in range(40) for n in (32, 64, 128)]
    assert fingerprint(found) == 413190737


def test_aks_keeps_the_number_where_the_released_code_floors_it_away():
    """For n = 16 the released code gives each of 32 leaves int(16 / 32) = 0 frames. Here the odd frame of a quota goes to the better half:
    of 0, 9, 0, 0, 5, 0, 0, 0 with n = 2 each half gives one, found by halving on."""
    assert select(Candidates.known(scores=[0, 9, 0, 0, 5, 0, 0, 0]), "aks", 2, peak=9).tolist() == [1, 4]
    for n in (1, 3, 16, 31, 33, 100):
        assert len(select(Candidates.known(scores=scores(1)), "aks", n)) == n


def test_bolt_is_the_released_code_where_it_repeats_nothing(fingerprint):
    """90 settings through sming256/BOLT's inverse_transform_sampling."""
    found = [
        select(Candidates.known(scores=scores(seed)), "bolt", n, power=p) for seed in range(0, 40, 4) for n in (4, 8, 16) for p in (1, 2, 3)
    ]
    assert fingerprint(found) == 2070880392


def test_bolt_reads_the_shares_by_hand():
    """Scores 0, 1, 2, 1, 0: shares 0, .25, .75, 1, 1. For n = 3 at 1/3, 1/2, 2/3: frame 2 three times, so the best others join: 1 and 3."""
    assert select(Candidates.known(scores=[0, 1, 2, 1, 0]), "bolt", 3).tolist() == [1, 2, 3]
    assert select(Candidates.known(scores=[0, 1, 2, 1, 0]), "bolt", 1).tolist() == [2]


def test_focus_is_the_released_code(fingerprint):
    """24 films through NUS-HPC-AI-Lab/FOCUS, with the same seeds; the scorer is asked of as many frames, 2,465 of 74,400."""
    found, asked = [], 0
    for seed in range(8):
        for count, fps in ((300, 1.0), (3000, 25.0), (6000, 30.0)):
            film = Candidates.known(scores=scores(seed, count), times=np.arange(count) / fps)
            found.append(select(film, "focus", 16, seed=seed, released=True))
            asked += film.asked
    assert fingerprint(found) == 3713911468
    assert asked == 2465


def test_focus_finds_the_needle_in_its_end_which_the_source_never_looks_at():
    """90 frames in 8 arms of 11 end at frame 87 there; here the last arm has the rest."""
    needle = np.zeros(90)
    needle[88:] = 1.0
    mended = select(Candidates.known(scores=needle), "focus", 8, seed=0)
    released = select(Candidates.known(scores=needle), "focus", 8, seed=0, released=True)
    assert (mended >= 88).sum() > (released >= 88).sum()


@pytest.mark.parametrize(("segment", "number"), [(96, 3600081450), (32, 819809589)])
def test_mdp3_is_the_released_code(segment, number, fingerprint):
    """18 films through Ovis' mdp3.py, as one stretch (its setting) and in stretches of 32 (the paper's)."""
    found = []
    for seed in range(6):
        frames, query = embedded(seed)
        for n in (4, 8, 16):
            film = Candidates.known(embeddings=frames, query=query)
            found.append(select(film, "mdp3", n, segment=segment, released=True))
            if segment == 96:
                assert select(film, "dpp", n).tolist() == found[-1].tolist()
    assert fingerprint(found) == number


def test_mdp3_takes_a_last_stretch_of_any_length():
    frames, query = embedded(0, count=75)
    assert len(select(Candidates.known(embeddings=frames, query=query), "mdp3", 9)) == 9


# -- plain loops -------------------------------------------------------------------------------------------------------


def test_dpp_is_the_plain_greedy_search():
    """Every step tries every frame and takes the largest 10 sum log r + log det S of numpy."""
    frames, query = embedded(3, count=24)

    def kernel(one, other):
        return sum(np.exp(-((one - other) ** 2).sum() / (2 * a)) for a in (0.125, 0.25, 0.5, 1, 2))

    def objective(places):
        matrix = np.array([[kernel(frames[i], frames[j]) for j in places] for i in places])
        return sum(10 * np.log(kernel(frames[i], query)) for i in places) + np.linalg.slogdet(matrix)[1]

    chosen = []
    while len(chosen) < 6:
        chosen.append(max((i for i in range(24) if i not in chosen), key=lambda i: objective([*chosen, i])))
    assert select(Candidates.known(embeddings=frames, query=query), "dpp", 6).tolist() == sorted(chosen)


def test_mdp3_weighs_every_way_of_giving_frames_to_stretches():
    """Six frames in stretches of two, three to choose: the best of all splits, each stretch greedy beside the last frame before it."""
    frames, query = embedded(5, count=6)
    from video.frames.dpp import Kernel

    film = Candidates.known(embeddings=frames, query=query)
    kernel, best = Kernel.of(film, 0.2), None
    for split in [(a, b, 3 - a - b) for a in range(3) for b in range(3) if 0 <= 3 - a - b <= 2]:
        value, places = 0.0, []
        for number, give in enumerate(split):
            found = kernel.greedy(np.array([2 * number, 2 * number + 1]), 2, places[-1] if places else None)
            value += found.values[give] - found.values[0] if give else 0.0
            places += sorted(2 * number + found.order[:give])
        best = max(best, (value, places)) if best else (value, places)
    assert select(film, "mdp3", 3, segment=2).tolist() == best[1]


def test_k_center_is_the_farthest_first_traversal():
    frames, _ = embedded(1, count=40)
    chosen = [int((frames @ frames.mean(0)).argmax())]
    while len(chosen) < 7:
        chosen.append(max(range(40), key=lambda i: min(np.linalg.norm(frames[i] - frames[j]) for j in chosen)))
    assert select(Candidates.known(embeddings=frames), "k_center", 7).tolist() == sorted(chosen)


def test_scene_changes_give_one_frame_a_scene():
    """Scenes of 5, 3 and 8 frames in red, green and blue: their middles are 2, 6 and 11."""
    frames = np.zeros((16, 3, 8, 8), np.uint8)
    for channel, (first, end) in enumerate([(0, 5), (5, 8), (8, 16)]):
        frames[first:end, channel] = 200
    assert select(Candidates.known(embeddings=colours(frames)), "scene_changes", 3).tolist() == [2, 6, 11]
    with pytest.raises(ValueError, match="uint8"):
        colours(frames.astype(float))


def test_the_highest_scores_are_taken():
    assert select(Candidates.known(scores=[3, 1, 4, 1, 5, 9, 2, 6]), "top_k", 3).tolist() == [4, 5, 7]


def test_every_beginning_of_the_spread_order_is_even():
    assert spread_order(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    for count in (1, 2, 3, 10, 97):
        assert sorted(spread_order(count).tolist()) == list(range(count))


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("kind", ["constant", "random", "one", "negative", "nearly"])
@pytest.mark.parametrize(("count", "n"), [(1, 1), (5, 2), (40, 1), (40, 39), (64, 16), (101, 7), (10, 20)])
def test_every_selector_gives_the_number_whatever_is_scored(name, kind, count, n):
    random = np.random.RandomState(count)
    told = {
        "constant": np.full(count, 0.3), "random": random.rand(count), "one": np.eye(1, count, count // 2)[0],
        "negative": -random.rand(count), "nearly": 1 + 1e-12 * random.rand(count),
    }[kind]  # fmt: skip
    film = Candidates.known(scores=told, embeddings=np.stack([told, np.ones(count)], 1), query=np.ones(2), times=np.arange(count) / 2)
    with np.errstate(all="raise", under="ignore"):
        found = select(film, name, n)
    assert found.tolist() == sorted(set(found.tolist()))
    assert len(found) == min(n, count)
    assert found[0] >= 0
    assert found[-1] < count
    assert found.tolist() == select(film, name, n).tolist()


@pytest.mark.parametrize("name", sorted(set(SELECTORS) - {"focus"}))
def test_where_nothing_is_told_frames_cover_the_film(name):
    """Equal scores and embeddings: no gap above twice the even one. (FOCUS draws at random.)"""
    film = Candidates.known(scores=np.ones(128), embeddings=np.ones((128, 4)))
    found = select(film, name, 16)
    assert np.diff([-1, *found, 128]).max() <= 16


def test_a_scorer_sees_frames_in_small_lots_and_once():
    seen = []

    def score(frames, text):
        seen.append((len(frames), text))
        return frames[:, 0]

    film = Candidates.watched(np.arange(100), lambda places: np.stack([places, places], 1), score=score, text="a cat")
    assert select(film, "top_k", 2).tolist() == [98, 99]
    assert select(film, "aks", 4, peak=0.1).tolist()
    assert seen == [(32, "a cat")] * 3 + [(4, "a cat")]


def test_candidates_refuse_what_cannot_be_chosen_from():
    with pytest.raises(ValueError, match="needs a scorer"):
        select(Candidates.known(embeddings=np.ones((4, 2))), "bolt", 2)
    with pytest.raises(ValueError, match="needs embeddings"):
        select(Candidates.known(scores=np.ones(4)), "dpp", 2)
    with pytest.raises(ValueError, match="finite"):
        select(Candidates.known(scores=[1.0, np.nan, 2.0]), "aks", 2)
    with pytest.raises(ValueError, match="rising"):
        Candidates([0.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="dimensions"):
        select(Candidates.known(embeddings=np.ones((4, 2)), query=np.ones(3)), "dpp", 2)
