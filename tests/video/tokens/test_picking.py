"""Reducers that compare tokens one by one, against plain loops and the peers' code: DiffFP, DyCoke, VidCom2, ToMe."""

import math

import numpy as np
import pytest
import torch

from video.tokens import REDUCERS


def cosine(one, other):
    return float(one.double() @ other.double() / (one.double().norm() * other.double().norm()))


# -- DiffFP ------------------------------------------------------------------------------------------------------------


def test_diff_fp_keeps_patches_that_changed(make_film):
    film, pixels = make_film(0, frames=4, grid=(2, 3)), torch.zeros(4, 3, 8, 12)
    pixels[1:, :, :4, 4:8] = 1 / 255  # the middle patch of the upper row brightens by one at the second frame
    pixels[3, :, 4:, 8:] = 0.05 / 255  # and the last of all by too little at the fourth
    got = REDUCERS["diff_fp"]()(film, (2, 3), pixels=pixels)
    wanted = [(0, y, x) for y in (0, 1) for x in (0, 1, 2)] + [(1, 0, 1), (2, 0, 0), (3, 0, 0)]  # one token at least
    assert [tuple(place) for place in got.positions.tolist()] == wanted


def test_diff_fp_against_the_patch_that_was_kept_sees_slow_change(make_film):
    """A brightness that grows by .06 a frame never passes .1 against the frame before; against what was kept it does at every second."""
    pixels = (torch.arange(6).view(6, 1, 1, 1) * 0.06 / 255).expand(6, 3, 4, 4)
    film = make_film(0, frames=6, grid=(2, 2))
    previous = REDUCERS["diff_fp"]()(film, (2, 2), pixels=pixels).counts(6)
    kept = REDUCERS["diff_fp"](against="kept")(film, (2, 2), pixels=pixels).counts(6)
    assert previous == [4, 1, 1, 1, 1, 1]
    assert kept == [4, 1, 4, 1, 4, 1]


# -- DyCoke ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "numbers"), [(8, (186, -2852.87, 5710.84)), (13, (234, -2889.37, 7504.76))])
def test_dycoke_is_the_released_code(frames, numbers, totals, make_film):
    assert numbers == totals(REDUCERS["dycoke"](released=True)(make_film(2, frames=frames), (6, 7)).features)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 10])
def test_dycoke_by_a_loop(frames, make_film):
    film, keep = make_film(3, frames=frames), int(0.3 * 42)
    wanted = []
    for t in range(frames):
        other = {0: None, 1: t - 1, 2: t - 2, 3: t - 1}[t % 4]
        order = range(42) if other is None else sorted(range(42), key=lambda i: cosine(film[t, i], film[other, i]))[:keep]
        wanted += [(t, i // 7, i % 7) for i in sorted(order)]
    got = REDUCERS["dycoke"]()(film, (6, 7))
    assert [tuple(place) for place in got.positions.tolist()] == wanted


# -- VidCom2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "keep", "numbers"),
    [(0, 0.15, (74, 1108.31, 2212.63)), (1, 0.25, (127, -3005.11, 3527.64)), (2, 0.5, (253, 635.42, 7872.58))],
)
def test_vidcom2_is_the_released_code(seed, keep, numbers, totals, make_film):
    assert numbers == totals(REDUCERS["vidcom2"](keep=keep)(make_film(seed), (6, 7)).features)


def test_vidcom2_by_a_loop(make_film):
    film = make_film(5, frames=5).double().numpy()
    flat = film.reshape(-1, 32)
    channels = sorted(range(32), key=lambda c: flat[:, c].var())[:16]
    unit = film[:, :, channels] / np.linalg.norm(film[:, :, channels], axis=2, keepdims=True)

    def alike(token, centre):
        return sum(math.exp(-((token - centre) ** 2).sum() / (2 * 2.0**k)) for k in range(-3, 2))

    whole = unit.reshape(-1, 16).mean(0)
    to_film = [[alike(token, whole) for token in frame] for frame in unit]
    to_frame = [[alike(token, frame.mean(0)) for token in frame] for frame in unit]
    odds = [math.exp(-np.mean(row) / 0.01 - max(-np.mean(r) / 0.01 for r in to_film)) for row in to_film]
    wanted = []
    for t in range(5):
        share = odds[t] / sum(odds)
        count = max(round(42 * min(1, 0.25 * (1 + share - 0.2))), 1)
        order = sorted(range(42), key=lambda i: to_film[t][i] + to_frame[t][i])[:count]
        wanted += [(t, i // 7, i % 7) for i in sorted(order)]
    got = REDUCERS["vidcom2"]()(torch.tensor(film).float(), (6, 7))
    assert [tuple(place) for place in got.positions.tolist()] == wanted


# -- ToMe --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "keep", "heads", "numbers"), [(1, 16, 1, (192, -610.51, 4649.94)), (4, 64, 4, (192, -2608.28, 4933.19))])
def test_tome_is_the_released_code(group, keep, heads, numbers, totals, make_film):
    """facebookresearch/ToMe's merge_wavg in the rounds of VideoChat-Flash's merge_tokens."""
    assert numbers == totals(REDUCERS["tome"](keep=keep, group=group, heads=heads)(make_film(0), (6, 7)).features)


def test_tome_by_a_loop(make_film, sorted_rows):
    """Every frame: the rounds with lists of clusters; a cluster is the plain mean of the patches in it."""
    film, found, weights, places = make_film(6, frames=3), [], [], []
    for t, frame in enumerate(film.double()):
        clusters, centre = [[i] for i in range(42)], list(range(42))
        while len(clusters) > 10:
            means = [frame[c].mean(0) for c in clusters]
            even, odd = list(range(0, len(clusters), 2)), list(range(1, len(clusters), 2))
            best = {e: max(odd, key=lambda o: cosine(means[e], means[o])) for e in even}
            ranked = sorted(even, key=lambda e: -cosine(means[e], means[best[e]]))
            r = min(len(clusters) - 10, len(clusters) // 2)
            joined = {o: list(clusters[o]) for o in odd}
            for e in ranked[:r]:
                joined[best[e]] += clusters[e]
            centre = [centre[e] for e in ranked[r:]] + [centre[o] for o in odd]
            clusters = [clusters[e] for e in ranked[r:]] + [joined[o] for o in odd]
        found += [frame[c].mean(0) for c in clusters]
        weights += [len(c) for c in clusters]
        places += [(t, c // 7, c % 7) for c in centre]
    got = REDUCERS["tome"](keep=10)(film, (6, 7))
    assert np.allclose(sorted_rows(got.features), sorted_rows(torch.stack(found)), atol=1e-5)
    assert [tuple(place) for place in got.positions.tolist()] == sorted(places)
    assert got.weight.tolist() == [w for _, w in sorted(zip(places, weights, strict=True))]


def test_tome_by_keys_merges_what_has_the_same_key():
    """Keys of kinds 0 0 1 1 0 0 1 1. Even places 0, 4 go to the first odd one of their kind, 1; 2, 6 to 3; 5 and 7 stay alone."""
    keys = torch.eye(2)[torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])][None]
    got = REDUCERS["tome"](keep=4, by="keys")(torch.arange(8.0).view(1, 8, 1), (2, 4), keys=keys)
    assert got.features[:, 0].tolist() == pytest.approx([5 / 3, 11 / 3, 5, 7])
    assert got.positions[:, 1:].tolist() == [[0, 1], [0, 3], [1, 1], [1, 3]]
    assert got.weight.tolist() == [3, 3, 1, 1]
