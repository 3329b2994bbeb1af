"""Phrases of a vocabulary in texts, by hand."""

import pytest

from data_tools.text.phrases import Phrases, plurals


@pytest.mark.parametrize(
    ("phrase", "forms"),
    [
        ("red circle", ["red circles"]),
        ("glass", ["glasses"]),
        ("box", ["boxes"]),
        ("bench", ["benches"]),
        ("berry", ["berries"]),
        ("toy", ["toys"]),
        ("knife", ["knifes", "knives"]),
        ("potato", ["potatos", "potatoes"]),
        ("woman", ["women"]),
    ],
)
def test_plurals(phrase, forms):
    assert [" ".join(form) for form in plurals(tuple(phrase.split()))] == forms


def test_mentions_in_order_by_the_names_of_things():
    found = Phrases([["sofa", "couch"], "dog", "potted plant"])
    assert found.find("Two dogs on a couch; a DOG, behind the potted plants.") == ["dog", "sofa", "dog", "potted plant"]
    assert found.name("Couches") == "sofa"
    assert found.name("cat") is None


def test_the_longest_phrase_counts_and_pauses_part_words():
    found = Phrases(["dog", "hot dog", "red circle"])
    assert found.find("a hot dog") == ["hot dog"]
    assert found.find("It is hot. Dog owners") == ["dog"]
    assert found.find("the square is red, circle and all") == []
    assert found.find("underdog dogs'") == ["dog"]


def test_entries_that_share_a_phrase_are_one_thing():
    found = Phrases(["couch", "settee", ["sofa", "couch"], ["divan", "settee", "sofa"]])
    assert len(found) == 1
    assert found.find("a divan, a settee and a sofa") == ["couch"] * 3


def test_an_empty_vocabulary_finds_nothing_and_an_empty_phrase_is_refused():
    assert Phrases([]).find("a dog") == []
    with pytest.raises(ValueError, match=r"needs words in each of its phrases, got \['!'\]"):
        Phrases(["!"])
