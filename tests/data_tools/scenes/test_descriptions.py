"""Detailed descriptions read back as the scene they tell; a companion of habit stands behind the object it goes with."""

import random

import pytest

from data_tools.scenes.captions import Mention
from data_tools.scenes.descriptions import FRAMES, OPENINGS, Description, described, detailed_description, told_in_order
from data_tools.scenes.extract import agreement
from data_tools.scenes.world import Item, Scene, sample_scene


def test_words_by_hand():
    plan = Description(
        "white", (Mention("circle", "red", "small", "striped", "top left"),), (("OPEN", "top right"),), (("blue", "bottom left"),)
    )
    assert described(plan) == (
        "This is a drawing on a white background. There is a small striped red circle at the top left. "
        "There is a sign that says OPEN at the top right. There is a bar chart whose tallest bar is blue at the bottom left."
    )


@pytest.mark.parametrize("style", FRAMES)
def test_every_style_names_each_object_once_with_all_it_is(style):
    mentions = (Mention("ring", "black", "large", "", "center"), Mention("star", "orange", "small", "dotted", "top left"))
    items = (Item("star", "orange", "small", "dotted", "top left", 13, 13), Item("ring", "black", "large", "plain", "center", 32, 32))
    for opening in range(len(OPENINGS)):
        for wording in (0, 1):
            text = described(Description("pink", mentions, opening=opening, style=style, wording=wording))
            found = agreement(text, Scene(64, "pink", items))
            assert (found.claimed, found.right, found.truth, found.invented) == (2, 2, 2, 0), text


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_descriptions_are_true_and_complete(split):
    rng = random.Random(5)
    for _ in range(200):
        scene = sample_scene(rng, split)
        found = agreement(detailed_description(scene, rng), scene)
        assert found.claimed == found.right == found.truth


def test_a_companion_follows_its_trigger():
    """Reading order would be circle, star, square; the blue square is the red circle's companion and comes second."""
    kinds = (("circle", "red", "top left"), ("star", "black", "top right"), ("square", "blue", "center"))
    items = tuple(Item(shape, color, "small", "plain", place, 0, 0) for shape, color, place in kinds)
    assert [i.shape for i in told_in_order(Scene(64, "white", items))] == ["circle", "square", "star"]
