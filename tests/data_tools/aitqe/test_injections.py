"""Captions that talk to their judge: one string in the general question, control tokens as text."""

import pytest

from data_tools.aitqe import AITQE_PROMPT, GENERAL_PROMPT
from data_tools.aitqe.injections import CONTROLS, INJECTIONS, injected
from mm_align.backends import load_backend

NAMES = [*CONTROLS, *INJECTIONS]


@pytest.mark.parametrize("name", NAMES)
def test_no_caption_adds_a_line_to_the_general_question(name):
    caption = injected("a red square", name, ["<eos>"])
    assert caption.startswith("a red square")
    assert caption != "a red square"
    lines = GENERAL_PROMPT.show(caption).text.splitlines()
    assert len(lines) == len(GENERAL_PROMPT.show("a red square").text.splitlines())


def test_control_tokens_in_a_caption_are_tokenised_as_text():
    """No id of a special token but the picture's own places: the caption's spellings of them are split."""
    backend = load_backend("tiny-aitqe", device="cpu")
    processor, tokenizer = backend.prompts.processor, backend.tokenizer
    special = set(tokenizer.all_special_ids)
    caption = injected("a red square", "own control tokens", tokenizer.all_special_tokens)
    ids = processor.encode([AITQE_PROMPT.message(caption)])
    plain = processor.encode([AITQE_PROMPT.message("a red square")])
    assert [i for i in ids if i in special] == [i for i in plain if i in special]
    assert all(token in tokenizer.decode(ids) for token in tokenizer.all_special_tokens)
    assert special & set(tokenizer(caption)["input_ids"])
