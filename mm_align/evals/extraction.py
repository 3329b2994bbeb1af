"""How the ports of benchmarks find a yes, a no or a letter in an answer; rules that several benchmarks share."""

from __future__ import annotations

import re

MARKS = ';/[]"{}()=+\\_-><@`,?!'


def vlmevalkit_yes_no(answer: str) -> str:
    """VLMEvalKit's `YOrN_Extraction`: Yes, No or Unknown, by the words of the processed text."""
    words = vlmevalkit_punctuation(answer.lower()).split()
    yes, no = "yes" in words, "no" in words
    return "Yes" if yes and not no else "No" if no and not yes else "Unknown"


def vlmevalkit_punctuation(text: str) -> str:
    """VLMEvalKit's `process_punctuation`, with its flag that is taken for a count: only the first 32 full stops are deleted."""
    spaced = text
    glued = re.search(r"(\d)(,)(\d)", text) is not None
    for mark in MARKS:
        beside = f"{mark} " in text or f" {mark}" in text or glued
        spaced = spaced.replace(mark, "" if beside else " ")
    return re.sub(r"(?!<=\d)(\.)(?!\d)", "", spaced, count=32)
