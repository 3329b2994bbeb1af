"""Entity labels of records as class numbers."""

from typing import Any

import pytest

from data_tools.records import Message, Part, Sample
from mm_align.losses.entity_classes import EntityClasses

TOWER = {"name": "Velm Tower", "levels": ["human-made", "tower", "Velm Tower"]}
CLIFF = {"name": "Arro Cliff", "levels": ["natural", None, "Arro Cliff"]}


def sample(id_: str, entity: Any = None, pictures: int = 1) -> Sample:
    parts = (*[Part("image")] * pictures, Part("text", "What is it?"))
    return Sample(id_, (Message("user", parts),), meta={} if entity is None else {"entity": entity})


def test_tables_are_sorted_and_skip_what_is_unknown():
    classes = EntityClasses.survey([sample("a", TOWER), sample("b"), sample("c", CLIFF), sample("d", TOWER)])
    assert classes.levels == (("human-made", "natural"), ("tower",), ("Arro Cliff", "Velm Tower"))
    assert classes.names == ("Arro Cliff", "Velm Tower")


def test_labels_of_a_batch_and_where_its_pictures_stand():
    """Four samples with 1, 0, 2 and 1 pictures: first blocks 0, none, 1, 3. An entity that training never saw has no label."""
    classes = EntityClasses.survey([sample("a", TOWER), sample("c", CLIFF)])
    unseen = {"name": "Other", "levels": ["natural", "lake", "Other"]}
    found = classes.annotate([sample("a", CLIFF), sample("b", TOWER, 0), sample("c", None, 2), sample("d", unseen)])
    assert found["entity"].tolist() == [0, 1, -100, -100]
    assert found["entity_levels"].tolist() == [[1, -100, 0], [0, 0, 1], [-100] * 3, [1, -100, -100]]
    assert found["entity_block"].tolist() == [0, -1, 1, 3]


def test_an_empty_batch_has_the_shapes():
    found = EntityClasses.survey([sample("a", TOWER)]).annotate([])
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"entity": (0,), "entity_levels": (0, 3), "entity_block": (0,)}


@pytest.mark.parametrize(
    "entity", ["Velm", {"name": "", "levels": ["a"]}, {"name": "a"}, {"name": "a", "levels": []}, {"name": "a", "levels": [1]}]
)
def test_another_form_is_named(entity):
    with pytest.raises(ValueError, match=r"sample 'x' has meta\['entity'\] = .* expected"):
        EntityClasses.survey([sample("x", entity)])


def test_levels_that_differ_in_number_and_no_entity_at_all():
    with pytest.raises(ValueError, match="'y' has 1 entity levels, earlier ones have 3; write null"):
        EntityClasses.survey([sample("x", TOWER), sample("y", {"name": "a", "levels": ["a"]})])
    with pytest.raises(ValueError, match="no training sample carries an entity"):
        EntityClasses.survey([sample("x")])
