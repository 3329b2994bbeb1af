"""How ports read an answer: what VLMEvalKit's, lmms-eval's and Video-MME's own functions give for odd strings."""

import pytest

from mm_align.evals.extraction import (
    PREFIXES,
    lmms_eval_letter,
    video_mme_letter,
    vlmevalkit_choice,
    vlmevalkit_option,
    vlmevalkit_punctuation,
    vlmevalkit_yes_no,
)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Yes.", "Yes"),
        ("no, there is not", "No"),
        ("Yes.No", "Unknown"),
        ("yes,no", "Unknown"),
        ("Yes/No", "Unknown"),
        ("**Yes**", "Unknown"),
        ("answer:yes", "Unknown"),
        ("\u201cyes\u201d", "Unknown"),
        ("not at all", "Unknown"),
        ("no-one", "No"),
        ("no-one - really", "Unknown"),
        ("1,5 apples-no", "Unknown"),
        ("", "Unknown"),
        ("YES\n", "Yes"),
        ("a. " * 31 + "yes.", "Yes"),
        ("a. " * 32 + "yes.", "Unknown"),
        ("1. " * 32 + "yes.", "Yes"),
    ],
)
def test_yes_or_no_as_vlmevalkit_reads_it(answer, found):
    assert vlmevalkit_yes_no(answer) == found


def test_punctuation_as_vlmevalkit_processes_it():
    assert vlmevalkit_punctuation("a-b , c, (d) e") == "a b  c d e"
    assert vlmevalkit_punctuation("3.4 is 5. or .6 or x.") == "3.4 is 5. or .6 or x"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("(B)", "B"),
        ("**A**", "A"),
        ("Answer is C", "C"),
        ("the answer is data", "D"),
        ("AA", None),
        ("a", None),
        ("A cat is on D", None),
        ("A dog sits on the sofa here", None),
        ("B, as it is not the other one. The answer is c", "C"),
        ("A and B", None),
        ("A and B, so the correct answer is **B**.", "B"),
        ("Cannot determine the answer", "Z"),
        ("Z", "Z"),
        ("Failed to obtain answer via API. A", None),
        ("\u7b54\u6848\u662fD", None),
    ],
)
def test_an_option_as_vlmevalkit_infers_it(answer, found):
    assert vlmevalkit_option(answer, "ABCD") == found


def test_a_choice_s_text_as_vlmevalkit_infers_it():
    choices = {"A": "a red cat", "B": "Dog", "C": "2"}
    assert vlmevalkit_choice("it is the DOG", choices) == "B"
    assert vlmevalkit_choice("a dog and 2 more", choices) is None
    assert vlmevalkit_choice("it is a dog of some kind or other", choices) is None  # more than twice 13 characters
    assert vlmevalkit_choice("dog: C", choices) == "C"
    assert vlmevalkit_choice("dog", {}) is None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("", ""),
        (" . ", ""),
        ("B", "B"),
        ("AA", "A"),
        ("A cat is on D", "A"),  # the start counts more than the end
        ("Both A and B", "B"),
        ("(A) or (B)? I pick C", "C"),
        ("The answer is A because (B) is wrong", "B"),  # of what comes behind the lead, the later
        ("The answer is not here", ""),
        ("Answer is B. The answer is A or B", "B"),
        ("a", ""),
        ("Dogs", "D"),
        ("A. x\nB. y", "A"),
        ("\u7b54\u6848\u662fD", "D"),
        ("C: text", "C"),
    ],
)
def test_a_letter_as_lmms_eval_extracts_it(answer, found):
    assert lmms_eval_letter(answer, "ABCD") == found


@pytest.mark.parametrize(
    ("answer", "official", "vlmevalkit"),
    [
        ("B", "B", "B"),
        ("The best answer is: (C)", "C", "C"),
        ("The answer: D.", "D", "D"),
        ("Best answer: C", "B", "B"),  # the prefix is fused with the next
        ("Best answer:Best option: C", "C", "C"),
        ("Based on the video, C", "B", "B"),
        ("Actually it is D", "A", "A"),
        ("Certainly! The answer is B", "C", "C"),
        ("Option: The correct answer A", "A", "A"),
        ("lower-case d", "", ""),
        ("", "", ""),
        ("Answer: The best option isThe correct option is B", "B", "B"),
    ],
)
def test_a_letter_as_video_mme_parses_it(answer, official, vlmevalkit):
    assert video_mme_letter(answer) == official
    assert video_mme_letter(answer, PREFIXES) == vlmevalkit
