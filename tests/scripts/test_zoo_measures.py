"""What the zoo's chatting models are measured by, against small cases worked out by hand."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts/proving"))

from tiny_judge import divided
from zoo.describing import figures, mixed_share, told, without_habits
from zoo.judging import Answer, Asked, balanced_accuracy, calibration_error, questions_of
from zoo.lvlm import COMPANIONS, INVENTED, from_habit

from data_tools.scenes.descriptions import described, plan_description
from data_tools.scenes.extract import agreement
from data_tools.scenes.world import HABITS, Item, Scene, sample_scene

SCENE = Scene(64, "white", (Item("circle", "red", "small", "plain", "top left", 13, 13),))


def test_told_by_hand():
    """A right circle, its absent companion (blue square) and a green star that habit does not explain."""
    text = "There is a small red circle at the top left. There is a blue square in the middle. There is a green star at the top right."
    assert told(text, SCENE) == (3, 1, 1, 1, 2, 1, 27)


def test_figures_by_hand():
    """Two descriptions: one invents, from habit; 3 of 4 claimed exist, of 4 objects; 2 of these 3 are fully right."""
    invented, honest = told("A red circle, a blue square.", SCENE), told("A large red circle.", SCENE)
    assert figures([invented, honest]) == {
        "hallucinating": 0.5, "from_habit": 1.0, "invented_objects": 0.3333, "coverage": 1.0, "attributes_right": 0.5, "words": 5.0,
    }  # fmt: skip
    assert mixed_share([[invented, honest], [honest, honest]]) == 0.5


def test_each_colour_calls_for_the_companion_of_its_habit():
    assert COMPANIONS["red"] == HABITS["red", "circle"] == ("blue", "square")
    assert set(COMPANIONS) == set(INVENTED)


def test_habit_invents_at_most_one_companion_and_leaves_the_rest():
    rng = random.Random(0)
    counts = []
    for _ in range(400):
        scene = sample_scene(rng, "heldout")
        found = agreement(described(from_habit(plan_description(scene, rng), scene, rng)), scene)
        assert found.right == found.truth
        counts.append(found.invented)
    assert set(counts) == {0, 1}
    assert 0.45 < sum(counts) / len(counts) < 0.7


def test_scenes_without_habits_have_none():
    for scene in without_habits("validation", 50, "t"):
        kinds = {(i.color, i.shape) for i in scene.items}
        assert not any(HABITS.get(kind) in kinds for kind in kinds)
        assert scene.split() == "validation"


def asked(*truths: bool) -> list[Asked]:
    return [Asked(SCENE, "existence", "?", true) for true in truths]


def test_balanced_accuracy_by_hand():
    """True: 2 of 3 accepted (a tie is a rejection); false: 1 of 1 rejected: (2/3 + 1) / 2."""
    found = [Answer(0.9, 0.1), Answer(0.6, 0.2), Answer(0.5, 0.5), Answer(0.1, 0.9)]
    assert balanced_accuracy(asked(True, True, True, False), found) == pytest.approx(5 / 6, abs=1e-4)


def test_calibration_error_by_hand():
    """Two answers of 0.75 of which one is true (gap 0.25) and two of 0 that are false (gap 0): 0.125."""
    found = [Answer(0.75, 0.25), Answer(0.3, 0.1), Answer(0.0, 1.0), Answer(0.0, 0.5)]
    assert calibration_error(asked(True, False, False, False), found) == pytest.approx(0.125)


def test_questions_are_half_false():
    made = questions_of("validation", 10, 60, "t")
    assert sum(m.true for m in made if m.kind != "whole") * 2 == sum(m.kind != "whole" for m in made)
    assert {m.kind for m in made} >= {"existence", "invented", "relation", "whole"}


class Fake:
    """A judge that rejects whatever speaks of squares, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def likelihood(self, samples, continuations):
        texts = [s.messages[0].parts[1].text for s in samples]
        self.seen += texts
        return [[(-9.0,), (-9.0,), (-0.1,), (-9.0,)] if "square" in t else [(-0.1,), (-9.0,), (-9.0,), (-9.0,)] for t in texts]


def test_a_whole_description_is_asked_piece_by_piece():
    judge = Fake()
    sentences = "This is a drawing on a white background. There is a red circle at the top left. There is a blue square in the middle."
    clauses = "This is a drawing on a white background. It shows a red circle at the top left, a blue square in the middle."
    wholes = [Asked(SCENE, "whole", f"{text}\nIs this description free of errors?", False) for text in (sentences, clauses)]
    assert divided(judge, wholes) == [1, 1]
    assert len(judge.seen) == 6
    assert "The image shows a blue square in the middle. Is this right? Please answer yes or no." in judge.seen
