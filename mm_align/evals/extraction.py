"""How benchmarks' evaluators and ports find a yes, a no or a letter in an answer; rules that several benchmarks share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# -- VLMEvalKit ----------------------------------------------------------------------------------------------------------

MARKS = ';/[]"{}()=+\\_-><@`,?!'
REFUSED = "Z"  # VLMEvalKit's letter for an answer that refuses to choose
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
AROUND_OPTIONS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
OPTIONS_AT_THE_END = 4  # a letter counts among so many last words


def vlmevalkit_yes_no(answer: str) -> str:
    """VLMEvalKit's `YOrN_Extraction`: Yes, No or Unknown, by the words of the processed text."""
    words = vlmevalkit_punctuation(answer.lower()).split()
    yes, no = "yes" in words, "no" in words
    return "Yes" if yes and not no else "No" if no and not yes else "Unknown"


def vlmevalkit_punctuation(text: str) -> str:
    """VLMEvalKit's `process_punctuation`, with its flag that is taken for a count: only the first 32 full stops that touch no digit
    are deleted."""
    spaced = text
    glued = re.search(r"\d,\d", text) is not None
    for mark in MARKS:
        beside = f"{mark} " in text or f" {mark}" in text or glued
        spaced = spaced.replace(mark, "" if beside else " ")
    return re.sub(r"(?<!\d)\.(?!\d)", "", spaced, count=32)


def vlmevalkit_option(answer: str, letters: Sequence[str]) -> str | None:
    """VLMEvalKit's `can_infer_option`: the only one of `letters` among the words, if it is one of the last four; `REFUSED` for a
    refusal; then the letter of "answer is X", in any case and even inside a word ("the answer is data" is D). None for none."""
    if "Failed to obtain answer via API" in answer:
        return None
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSED
    words = answer.translate(AROUND_OPTIONS).split()
    there = [letter for letter in letters if letter in words]
    if len(there) == 1 and words.index(there[0]) >= len(words) - OPTIONS_AT_THE_END:
        return there[0]
    if not there and REFUSED in words:
        return REFUSED
    told = re.search(r"(?i)answer\s+is\s+\**([ABCD])", answer)
    return told[1].upper() if told and told[1].upper() in letters else None


def vlmevalkit_choice(answer: str, choices: Mapping[str, str]) -> str | None:
    """VLMEvalKit's `can_infer`: the option, else the only choice whose text occurs in the answer (in an answer that is not more than
    twice as long as all choices together)."""
    if option := vlmevalkit_option(answer, list(choices)):
        return option
    said = answer.lower()
    if len(said) > 2 * sum(map(len, choices.values())):
        return None
    there = [letter for letter, text in choices.items() if text.lower() in said]
    return there[0] if len(there) == 1 else None


# -- lmms-eval -----------------------------------------------------------------------------------------------------------

LEADS = (
    *(f"{article}answer is" for article in ("the ", "")),
    *(f"{article}{grade} {noun} is" for noun in ("answer", "option") for grade in ("correct", "best") for article in ("the ", "")),
    *(f"{article}{noun} is" for noun in ("choice", "correct choice") for article in ("the ", "")),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
BESIDE = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}
START, END, PHRASE = 10, 9, 7


def lmms_eval_letter(answer: str, letters: Sequence[str]) -> str:
    """lmms-eval's `extract_mcq_answer`: the letter with the best sign (at the start, at the end, behind "answer is", (A), A., A:,
    A), A and a blank, anywhere), of equal ones the later, of those at one place the earlier of `letters`; "" for none."""
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    text = f" {text} "
    found = [(sign, text.rfind(shape.format(letter)), letter) for shape, sign in BESIDE.items() for letter in letters]
    found += [(PHRASE, at, letter) for at, letter in _behind_a_lead(text, letters)]
    found += _at_the_ends(text, letters)
    found = [one for one in found if one[1] >= 0] or [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else ""  # max keeps the first of equals, as upstream's stable sort does


def _behind_a_lead(text: str, letters: Sequence[str]) -> list[tuple[int, str]]:
    """Where each letter first comes behind the first occurrence of each lead. Places are of the lower-cased text, as upstream's."""
    lowered = text.lower()
    starts = [lowered.find(lead) + len(lead) for lead in LEADS if lead in lowered]
    return [(text.find(letter, start), letter) for start in starts for letter in letters]


def _at_the_ends(text: str, letters: Sequence[str]) -> list[tuple[int, int, str]]:
    bare = text.strip()
    found = []
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((START, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((END, len(text) - 1, letter))
    return found


# -- Video-MME -----------------------------------------------------------------------------------------------------------

PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # upstream lost a comma here
    "Best answer:Best option:",  # and here
    "Answer:",
    "Option:",
)
MORE_PREFIXES = ("The correct answer", "The correct option")  # of the official script, not of VLMEvalKit's


def video_mme_letter(answer: str, prefixes: Sequence[str] = (*PREFIXES, *MORE_PREFIXES)) -> str:
    """The first capital A, B, C or D once the prefixes are deleted, even inside a word ("Actually" is A); "" for none."""
    text = answer.strip()
    for prefix in prefixes:
        text = text.replace(prefix, "")
    found = re.search("[ABCD]", text)
    return found[0] if found else ""
