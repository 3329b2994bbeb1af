"""Sentences, lists and claims of texts, by hand, on drawn scenes and on real answers."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from data_tools.scenes.descriptions import STYLES, described, plan_description
from data_tools.scenes.world import sample_scene
from data_tools.text.claims import claims
from data_tools.text.lists import read_list, read_numbered
from data_tools.text.sentences import sentences
from data_tools.text.yes_no import yes_no_question

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "real_images" / "owleval" / "answer"


# Sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog. A cat! Is it? 3 birds.", ["A dog.", "A cat!", "Is it?", "3 birds."]),
        (
            "Mr. Smith, e.g. J. R. Smith of the U.S. Army, pays $2.50 a day.",
            ["Mr. Smith, e.g. J. R. Smith of the U.S. Army, pays $2.50 a day."],
        ),
        ('He said "Stop." Then he left (slowly.) All ended...', ['He said "Stop."', "Then he left (slowly.)", "All ended..."]),
        ("A line that\nis wrapped\nhere. Next.\n\nNew paragraph", ["A line that is wrapped here.", "Next.", "New paragraph"]),
        ("Things:\n- **a dog**\n* a cat\n1. a bird\n2) a cow\n3.\nAn owl", ["Things:", "a dog", "a cat", "a bird", "a cow", "An owl"]),
        ("### Title\nA dog.<br>A `cat`.", ["Title", "A dog.", "A cat."]),
        ("一只狗。两只猫！", ["一只狗。", "两只猫！"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


# Lists


@pytest.mark.parametrize("marker", ["- ", "* ", "• ", "•", "1. ", "1) ", "(1) ", "a. ", "  - ", "– "])
def test_every_marker_is_read(marker):
    assert read_list(f"### Facts:\n{marker}The dog is black.\n{marker}It rains.\n") == ["The dog is black.", "It rains."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The dog is black.\nIt rains.", ["The dog is black.", "It rains."]),
        ("Here are the facts:\nThe dog is black.", ["The dog is black."]),
        ("Sure, here they are.\n- The dog\n  is black.\n- It rains.", ["The dog is black.", "It rains."]),
        ('```\n- "The dog is black."\n- **It rains.**\n```', ["The dog is black.", "It rains."]),
        ("- -5 degrees are shown.\n- 3 dogs run.", ["-5 degrees are shown.", "3 dogs run."]),
        ("", []),
        ("### Facts:\n", []),
    ],
)
def test_lists_of_many_forms(text, expected):
    assert read_list(text) == expected


def test_numbered_lists_are_read_by_number():
    """3 is missing, 2 comes twice, and a line without a number goes on."""
    text = "Questions:\n1. Is it\n   red?\n2) Is it blue?\n2. Is it green?\n**4.** Is it old?"
    assert read_numbered(text) == {1: "Is it red?", 2: "Is it blue?", 4: "Is it old?"}


# Claims


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It shows a dog, a cat and a tree.", ["The image shows a dog.", "The image shows a cat.", "The image shows a tree."]),
        ("There are two dogs, a cat, and three birds.", ["There are two dogs.", "There is a cat.", "There are three birds."]),
        ("In the image, there is a dog, and a cat.", ["In the image, there is a dog.", "In the image, there is a cat."]),
        ("Sure! I can see a red cup and a blue plate.", ["I can see a red cup.", "I can see a blue plate."]),
        ("Yes, there is a bathroom.", ["There is a bathroom."]),
        ("It shows:\n- a dog\n- a cat", ["A dog.", "A cat."]),
        ("Is this a dog? Yes. Sure!", []),
        ("", []),
    ],
)
def test_claims(text, expected):
    assert claims(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The image shows a man and a woman standing next to each other.",
        "The picture shows a statue with the body of a lion and the head of a fish.",
        "I can see a bench between a tree and a car.",
        "The street has many people, some holding umbrellas, and others with a bag.",
        "There is a man, and the dog is black.",
        "There are various things, such as a book, a cup, and a bowl.",
        "The sun exposure, as long as it lasts, is high.",
        "A man, a woman and a child are sitting on a bench.",
    ],
)
def test_what_belongs_together_stays_together(text):
    assert claims(text) == [text]


def test_a_short_answer_needs_its_question():
    assert claims("red", "What color is it?") == ['The answer to "What color is it?" is "red".']
    assert claims("Yes.", "Is it  red?") == ['The answer to "Is it red?" is "Yes".']
    assert claims("Sure!", "Is it red?") == []
    assert claims("It is red.", "What color is it?") == ["It is red."]


@pytest.mark.parametrize("style", STYLES)
def test_a_description_has_a_claim_for_each_thing(style):
    """One for the ground, one for each object, sign and chart, whatever the style of the sentences."""
    rng = random.Random(f"claims-{style}")
    for _ in range(50):
        plan = dataclasses.replace(plan_description(sample_scene(rng, "validation"), rng), style=style)
        found = claims(described(plan))
        assert len(found) == 1 + len(plan.mentions) + len(plan.signs) + len(plan.charts), (described(plan), found)


# Questions


@pytest.mark.parametrize(
    ("claim", "question"),
    [
        ("There is a dog.", "Is there a dog?"),
        ("In the corner, there are two dogs.", "In the corner, are there two dogs?"),
        ("The dog is black.", "Is the dog black?"),
        ("A large dog is in the center.", "Is a large dog in the center?"),
        ("Kobe Bryant is running.", "Is Kobe Bryant running?"),
        ("Two phones can be seen.", "Can two phones be seen?"),
        ("I can see a dog.", "Can you see a dog?"),
        ("Here we see a dog.", "Do we see a dog?"),
        ("The image shows a dog.", "Does the image show a dog?"),
        ("The man has a hat.", "Does the man have a hat?"),
        ("This is a drawing on a grey background.", "Is this a drawing on a grey background?"),
    ],
)
def test_questions_by_rule(claim, question):
    assert yes_no_question(claim) == question


@pytest.mark.parametrize(
    "claim",
    [
        "The man who is tall is running.",
        "The dog is black and the cat is white.",
        "The dog is not black.",
        "There is no dog.",
        "Once they are done, the water is poured.",
        "Running is healthy.",
        "Add the noodles.",
        "A chart whose tallest bar is red is at the top left.",
    ],
)
def test_a_claim_of_another_form_keeps_its_words(claim):
    assert yes_no_question(claim) == f"{claim} Is this right?"


# Real answers


@pytest.fixture(scope="module")
def answers():
    """Thirty answers of three models, of all lengths."""
    if not REAL.is_dir():
        pytest.skip(f"no real answers at {REAL}; they are not shipped")
    rows = [
        json.loads(line)
        for model in ("llava_13b", "mPLUG_Owl_7b", "minigpt4_13b")
        for line in (REAL / f"{model}_answer.jsonl").read_text(encoding="utf-8").splitlines()[::8][:10]
    ]
    assert len(rows) == 30
    return rows


def letters(text):
    return "".join(c for c in text.lower() if c.isalnum())


def test_no_word_of_a_real_answer_is_lost_or_made_up(answers):
    """Sentences hold the letters of the answer in its order (list numbers and `<br>` aside); every claim is made of its words."""
    for row in answers:
        said = "".join(letters(sentence) for sentence in sentences(row["answer"]))
        assert len(said) >= 0.97 * len(letters(row["answer"].replace("<br>", " "))), row["answer"]
        known = set(row["answer"].lower().replace("<br>", " ").split()) | {"the", "image", "shows", "is", "are"}
        for claim in claims(row["answer"]):
            strange = [
                word for word in claim.lower().split() if word not in known and word.rstrip(".") not in {w.rstrip(".,;!*:") for w in known}
            ]
            assert len(strange) <= 1, (claim, strange)


def test_real_answers_become_sentences(answers):
    """Each claim is one sentence that begins with a capital or a digit and ends; long answers have several."""
    for row in answers:
        found = claims(row["answer"], row["question"])
        assert all(claim[0].isupper() or not claim[0].isalpha() for claim in found)
        assert all(len(sentences(claim)) == 1 or '"' in claim for claim in found), found
        assert len(row["answer"].split()) < 60 or len(found) >= 3, row["answer"]
