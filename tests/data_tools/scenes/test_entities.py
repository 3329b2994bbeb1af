"""The landmarks: the same world for ever, a consistent hierarchy, facts and looks apart, details that half the resolution hides."""

import hashlib
import json
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data_tools.scenes.entities import FACTS, SPEC, landmarks, question, sample_view
from data_tools.scenes.entity_render import MOUNTS, render_landmark
from data_tools.scenes.entity_rows import entity_rows, make_row


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def siblings(family: int, world: int = 0):
    return landmarks(world)[family * SPEC["siblings"] : (family + 1) * SPEC["siblings"]]


def test_the_world_stays_what_it_is():
    told = json.dumps([[e.name, e.levels, dict(e.facts)] for e in landmarks(0)])
    assert digest(told.encode()) == "d3dff191d544f762"
    rng = random.Random("golden")
    pictures = [render_landmark(e.look, sample_view(rng)).tobytes() for e in landmarks(0)[::7]]
    assert digest(*pictures) == "44f09b229d252245"


def test_another_world_has_other_names_and_looks():
    one, other = landmarks(0), landmarks(1)
    assert not {e.name for e in one} & {e.name for e in other}
    assert [e.look for e in one] != [e.look for e in other]


def test_the_hierarchy_is_a_tree_of_four_levels():
    entities = landmarks(0)
    assert len(entities) == 108
    for upper, lower in ((0, 1), (1, 2), (2, 3)):
        parents = {}
        for e in entities:
            assert parents.setdefault(e.levels[lower], e.levels[upper]) == e.levels[upper]
    assert [len({e.levels[k] for e in entities}) for k in range(4)] == [2, 6, 18, 108]
    assert len({e.name for e in entities}) == 108


def test_facts_come_from_closed_lists_and_not_from_looks():
    """Siblings, which look alike from afar, share no fact."""
    for fact in FACTS:
        assert {e.facts[fact] for e in landmarks(0)} == set(SPEC["facts"][fact])
        assert all(len({e.facts[fact] for e in siblings(family)}) == SPEC["siblings"] for family in range(18))
        assert question(fact, "Nisa") != question(fact)


def test_no_word_of_a_name_tells_the_entity():
    words = Counter(word for e in landmarks(0) for word in e.name.split())
    assert min(words.values()) > 3


@pytest.mark.parametrize("family", range(18))
def test_half_the_resolution_hides_what_tells_siblings_apart(family):
    """All 2 x 2 blocks of an emblem have one mean. A triangle filter of width 4 leaves at most the ramp's second difference
    and rounding: a few of 255 levels in a handful of pixels; at full resolution pixels differ by more than 100."""
    view = sample_view(random.Random(family))
    whole = [render_landmark(e.look, view) for e in siblings(family)]
    half = [np.asarray(p.resize((48, 48), Image.Resampling.BILINEAR), float) for p in whole]
    for k in range(1, len(whole)):
        assert np.abs(half[0] - half[k]).max() <= 6
        assert np.abs(half[0] - half[k]).mean() < 0.05
        assert np.abs(np.asarray(whole[0], float) - np.asarray(whole[k], float)).max() > 100


def test_families_are_told_apart_at_half_the_resolution():
    view = sample_view(random.Random(1))
    half = [np.asarray(render_landmark(siblings(f)[0].look, view).resize((48, 48)), float) for f in range(18)]
    assert min(np.abs(a - b).mean() for k, a in enumerate(half) for b in half[:k]) > 1


def test_emblems_lie_on_even_pixels():
    """Their weave has a fixed phase towards the patches of a tower, and 2 x 2 averaging meets whole periods."""
    assert all(v % 2 == 0 for places in MOUNTS.values() for xy in places for v in xy)
    views = [sample_view(random.Random(k)) for k in range(50)]
    assert all(v.x % 2 == 0 and v.y % 2 == 0 for v in views)


def test_a_row_tells_everything_and_can_be_made_alone():
    rows = list(entity_rows(5, seed=3, split="heldout"))
    again, entity, _ = make_row(3, "heldout", 4)
    assert rows[4].meta["entity"] == again["entity"] == {"name": entity.name, "levels": list(entity.levels)}
    assert rows[4].caption == again["caption"]
    assert entity.name in rows[4].caption
    asked = {q["kind"]: q["answer"] for q in again["sceneworld"]["questions"] if q["type"] == "open"}
    assert asked["name"] == entity.name
    assert {f: asked[f] for f in FACTS} == dict(entity.facts)
    assert rows[0].images[0].data != rows[1].images[0].data
    assert make_row(3, "train", 4)[0]["sceneworld"]["view"] != again["sceneworld"]["view"]


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="expected one of train"):
        make_row(0, "test", 0)
