"""Statements are true or false as they say, in pairs that differ in what they claim, and read as sentences and questions."""

import random
from collections import Counter

import pytest

from data_tools.scenes.extract import mentions
from data_tools.scenes.ratings import FREE_OF_ERRORS, question, rated
from data_tools.scenes.statements import KINDS, asked, holds, pair, statements
from data_tools.scenes.world import Item, Scene, sample_scene

SCENE = Scene(
    64,
    "gray",
    (Item("circle", "red", "small", "striped", "top left", 13, 13), Item("cross", "blue", "large", "plain", "bottom right", 51, 51)),
)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "text"])
def test_each_kind_gives_a_true_and_a_false_statement(kind):
    true, false = pair(SCENE, kind, random.Random(1))
    assert (true.true, false.true) == (True, False)
    assert true.text != false.text
    for statement in (true, false):
        assert statement.kind == kind
        assert statement.text[0] + statement.question[0] == (statement.text[0] + statement.question[0]).upper()
        assert statement.text[-1] + statement.question[-1] == ".?"


@pytest.mark.parametrize("kind", ["existence", "invented", "object", "size", "texture", "position"])
def test_statements_about_objects_agree_with_the_scene(kind):
    rng = random.Random(2)
    for _ in range(200):
        scene = sample_scene(rng, "train")
        for statement in pair(scene, kind, rng):
            (mention,) = mentions(statement.text)
            assert holds(mention, scene.items) == statement.true, statement


def test_words_by_hand():
    rng = random.Random(3)
    said = {s.text: s.true for _ in range(300) for s in statements(SCENE, rng)}
    assert said["There is exactly one cross."] is True
    assert said["There are exactly two crosses."] is False
    assert said["There are exactly two objects."] is True
    assert said["The red circle is to the left of the blue cross."] is True
    assert said["The red circle is striped."] is True
    assert said["The background is gray."] is True


def test_signs_and_charts_are_asked_only_where_there_are_some():
    assert pair(SCENE, "text", random.Random(0)) == []
    with_sign = next(s for s in (sample_scene(random.Random(k), "train") for k in range(200)) if s.signs)
    true, false = pair(with_sign, "text", random.Random(0))
    assert with_sign.signs[0].word in true.text
    assert with_sign.signs[0].word not in false.text


def test_questions_end_in_many_ways_and_hold_the_statement():
    statement = pair(SCENE, "existence", random.Random(0))[0]
    ways = {asked(statement, random.Random(k)) for k in range(300)}
    assert len(ways) >= 20
    assert all(statement.text in way or statement.question in way for way in ways)


def test_ratings_count_what_is_wrong():
    """Half are free of errors; the answer follows from the count; stars fall by one for each."""
    rng = random.Random(4)
    made = [rated(sample_scene(rng, "train"), rng) for _ in range(600)]
    assert 0.44 < sum(not r.errors for r in made) / len(made) < 0.56
    assert Counter(r.errors for r in made)[2] > 30
    assert {r.stars for r in made if not r.errors} == {5}
    for one in made[:50]:
        text, answer = question(one, rng)
        assert one.text in text
        assert answer in (("no" if one.errors else "yes"), str(one.stars))
    assert "{d}" in FREE_OF_ERRORS[0]
