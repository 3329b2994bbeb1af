"""The named chat templates, against what the authors' code writes for the same turns (worked out by hand)."""

import pytest

from data_tools.records import Message, Part
from mm_align.config import UserError
from mm_align.models.chat_templates import CHAT_TEMPLATES, chat_template

TALK = (
    Message("user", (Part("image"), Part("text", "What?"))),
    Message("assistant", (Part("text", "A cat."),), trains=True),
    Message("user", (Part("text", "Sure?"),)),
    Message("assistant", (Part("text", "Yes."),), trains=True),
)
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
PICTURE = "<image>" * 4


def shown(make_processor, name, messages, **options):
    """The text of the prompt, and of what trains."""
    processor = make_processor(prompt_style="chat", chat_template=chat_template(name))
    if options:
        return processor.tokenizer.decode(processor.encode(messages, **options))
    encoded = processor.encode_for_training(messages)
    trained = [int(token) for token, trains in zip(encoded.ids, encoded.trains, strict=True) if trains]
    return processor.tokenizer.decode([int(token) for token in encoded.ids]), processor.tokenizer.decode(trained)


def test_vicuna(make_processor):
    """conv_vicuna_v1: SYSTEM + ' ' + 'USER: ' q ' ' 'ASSISTANT: ' a '</s>'; the loss falls on the answers and their ends."""
    text, trained = shown(make_processor, "vicuna", TALK)
    assert text == f"{SYSTEM} USER: {PICTURE}\nWhat? ASSISTANT: A cat.<eos>USER: Sure? ASSISTANT: Yes.<eos>"
    assert trained in ("A cat.<eos>Yes.<eos>", " A cat.<eos> Yes.<eos>")
    asked = shown(make_processor, "vicuna", TALK[:1], add_generation_prompt=True)
    assert asked == f"{SYSTEM} USER: {PICTURE}\nWhat? ASSISTANT:"


def test_vicuna_takes_another_system_prompt(make_processor):
    text, _ = shown(make_processor, "vicuna", (Message("system", (Part("text", "Be brief."),)), *TALK[:2]))
    assert text == f"Be brief. USER: {PICTURE}\nWhat? ASSISTANT: A cat.<eos>"


def test_llava_pretrain_is_picture_and_caption(make_processor):
    """preprocess_plain: the picture, the caption and a newline; the question is dropped."""
    text, trained = shown(make_processor, "llava-pretrain", TALK[:2])
    assert text == f"{PICTURE}A cat.\n"
    assert trained == "A cat.\n"


def test_chatml(make_processor):
    text, trained = shown(make_processor, "chatml", TALK[:2])
    assert text == f"<|im_start|>user\n{PICTURE}\nWhat?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
    assert trained == "A cat.<|im_end|>\n"


def test_a_file_is_a_template_too(tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    assert chat_template(str(tmp_path / "mine.jinja")) == "{{ messages }}"
    with pytest.raises(UserError, match=f"neither one of {', '.join(CHAT_TEMPLATES)} nor a file"):
        chat_template("vicunia")


def test_another_image_token(make_processor):
    assert "<picture>" in chat_template("vicuna", "<picture>")
    assert "<image>" not in chat_template("vicuna", "<picture>")
