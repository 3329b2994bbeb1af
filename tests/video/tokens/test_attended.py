"""Reducers by a tower's attention, against plain loops and the peers' code: VisionZip, PruMerge."""

import numpy as np
import pytest
import torch

from video.tokens import REDUCERS


def cosine(one, other):
    return float(one.double() @ other.double() / (one.double().norm() * other.double().norm()))


# -- VisionZip ---------------------------------------------------------------------------------------------------------


def test_visionzip_is_the_released_code(totals, make_film):
    """Twelve frames through its CLIP tower's forward, the class token left away."""
    random = np.random.RandomState(0)
    heads = torch.tensor(random.rand(12, 4, 43, 43).astype(np.float32))
    keys = torch.tensor(random.randn(12, 43, 8).astype(np.float32))
    reducer = REDUCERS["visionzip"](dominant=10, contextual=4, released=True)
    assert totals(reducer(make_film(0), (6, 7), attention=heads[:, :, 0, 1:].sum(1), keys=keys[:, 1:]).features) == (168, -1933.65, 5316.33)


@pytest.mark.parametrize("released", [True, False])
def test_visionzip_by_a_loop(released, make_film, make_attention, sorted_rows):
    film, attention, found = make_film(1, frames=3), make_attention(1, frames=3), []
    for t in range(3):
        order = sorted(range(42), key=lambda i: -attention[t, i])
        found += [film[t, i] for i in order[:9]]
        rest = sorted(order[9:])
        centres = rest[:: len(rest) // 5][:5]
        joins = {c: [] for c in centres}
        for i in rest:
            if i not in centres:
                joins[max(centres, key=lambda c: cosine(film[t, i], film[t, c]))].append(film[t, i])
        for c, members in joins.items():
            total = torch.stack([torch.zeros(32), *members]).sum(0)
            found.append(film[t, c] + total / max(len(members), 1) if released else (film[t, c] + total) / (1 + len(members)))
    got = REDUCERS["visionzip"](dominant=9, contextual=5, released=released)(film, (6, 7), attention=attention)
    assert np.allclose(sorted_rows(got.features), sorted_rows(torch.stack(found)), atol=1e-5)
    assert got.weight.sum() == 3 * 42


# -- PruMerge ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "plus", "numbers"),
    [
        (0, False, (9, -1751.5, 260.96)), (0, True, (42, -7992.1, 1402.08)),
        (3, False, (8, -4.53, 316.87)), (3, True, (26, -474.88, 1109.36)),
    ],
)  # fmt: skip
def test_prumerge_is_the_released_code(seed, plus, numbers, totals, make_film):
    """Its token_prune_merge_advanced and _plus, with 41 for the 575 that it counts to."""
    random = np.random.RandomState(seed)
    keys = torch.tensor(random.randn(1, 43, 32).astype(np.float32))
    query = torch.tensor((random.randn(1, 43, 32) * 3).astype(np.float32))
    keys[0, random.randint(1, 43, 4)] += query[0, 0] * 0.4
    attention = torch.softmax(query @ keys.transpose(1, 2) * 32**-0.5, -1)[:, 0, 1:]
    reducer = REDUCERS["prumerge"](released=True, plus=plus)
    assert numbers == totals(reducer(make_film(seed, frames=1), (6, 7), attention=attention, keys=keys[:, 1:]).features)


@pytest.mark.parametrize("released", [True, False])
def test_prumerge_by_a_loop(released, make_film, make_attention, sorted_rows):
    film, attention, found = make_film(2, frames=3), make_attention(2, frames=3), []
    for t in range(3):
        low, high = np.percentile(attention[t], 25), np.percentile(attention[t], 75)
        count = max(sum(float(a) > high + 1.5 * (high - low) for a in attention[t]), 1)
        chosen = sorted(range(42), key=lambda i: -attention[t, i])[:count]
        for i in chosen:
            near = sorted((j for j in range(42) if j != i), key=lambda j: -cosine(film[t, i], film[t, j]))[:5]
            total = film[t, i] + sum(attention[t, j] * film[t, j] for j in near)
            found.append(total if released else total / (1 + sum(attention[t, j] for j in near)))
        rest = [j for j in range(42) if j not in chosen]
        total = sum(attention[t, j] * film[t, j] for j in rest)
        found.append(total if released else total / sum(attention[t, j] for j in rest))
    got = REDUCERS["prumerge"](neighbours=5, released=released)(film, (6, 7), attention=attention)
    assert np.allclose(sorted_rows(got.features), sorted_rows(torch.stack(found)), atol=1e-5)


def test_prumerge_keeps_a_given_number(make_film, make_attention):
    got = REDUCERS["prumerge"](keep=6)(make_film(2), (6, 7), attention=make_attention(2))
    assert got.counts(12) == [7] * 12
