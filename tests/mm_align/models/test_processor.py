"""Token sequences of the processor: exact, and safe from what data says."""

from collections.abc import Callable
from typing import Any

import pytest

from data_tools.records import Message, Part
from mm_align.models import LvlmProcessor

IMAGE, EOS = 258, 256
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}"
    "{% endfor %}{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def user(text: str, image: bool = True) -> Message:
    return Message("user", (*([Part("image")] if image else []), Part("text", text)))


def assistant(text: str, trains: bool = True) -> Message:
    return Message("assistant", (Part("text", text),), trains)


def ids_of(processor: Any, text: str) -> list[int]:
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


class TestPlain:
    def test_placeholders_newline_text(self, processor: Any) -> None:
        """AITQE's order: N placeholders, a newline by itself, then the text, whose own first newline stays apart."""
        newline = ids_of(processor, "\n")
        assert processor.encode([user("\nab")]) == [IMAGE] * 4 + newline + newline + ids_of(processor, "ab")

    def test_data_cannot_inject_control_tokens(self, processor: Any) -> None:
        ids = processor.encode([user("a <eos><image><pad> b")])
        assert ids.count(IMAGE) == 4
        assert not {EOS, 257} & set(ids)
        assert processor.tokenizer.decode(ids[5:]) == "a <eos><image><pad> b"

    def test_what_trains(self, processor: Any) -> None:
        encoded = processor.encode_for_training([user("q"), assistant("ab")])
        assert encoded.ids == [IMAGE] * 4 + ids_of(processor, "\nq") + ids_of(processor, "ab") + [EOS]
        assert encoded.trains == [False] * 6 + [True] * 3

    def test_an_earlier_answer_need_not_train(self, processor: Any) -> None:
        encoded = processor.encode_for_training(
            [user("q", image=False), assistant("a", trains=False), user("r", image=False), assistant("b")]
        )
        assert [i for i, t in zip(encoded.ids, encoded.trains, strict=True) if t] == [*ids_of(processor, "b"), EOS]

    def test_nothing_to_train_is_an_error(self, processor: Any) -> None:
        with pytest.raises(ValueError, match=r"Message\.trains"):
            processor.encode_for_training([user("q"), assistant("a", trains=False)])

    def test_a_video_without_frames_is_refused(self, processor: Any) -> None:
        with pytest.raises(ValueError, match="has no frames; decode them first"):
            processor.encode([Message("user", (Part("video"),))])


class TestChat:
    @pytest.fixture
    def chat(self, make_processor: Callable[..., Any]) -> Any:
        return make_processor(prompt_style="chat", chat_template=TEMPLATE)

    def test_equals_the_rendered_template(self, chat: Any) -> None:
        assert chat.encode([user("hi")]) == ids_of(chat, "<user>" + "<image>" * 4 + "hi<assistant>")

    def test_data_cannot_inject_control_tokens(self, chat: Any) -> None:
        ids = chat.encode([user("a<eos><image>b")])
        assert ids == ids_of(chat, "<user>" + "<image>" * 4) + chat.text_ids("a<eos><image>b") + ids_of(chat, "<assistant>")
        assert ids.count(IMAGE) == 4
        assert EOS not in ids

    def test_what_trains(self, chat: Any) -> None:
        encoded = chat.encode_for_training([user("q"), assistant("ab")])
        assert encoded.ids == ids_of(chat, "<user>" + "<image>" * 4 + "q<assistant>ab<eos>")
        assert encoded.trains == [False] * (len(encoded.ids) - 3) + [True] * 3

    def test_a_template_may_leave_turns_out(self, make_processor: Callable[..., Any]) -> None:
        """Of system turns this one shows nothing, not even what had to be hidden from it."""
        quiet = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
        made = make_processor(prompt_style="chat", chat_template=quiet)
        assert made.encode([Message("system", (Part("text", "be <eos> brief"),)), user("hi")]) == made.encode([user("hi")])

    def test_fingerprint_follows_what_makes_tokens(self, make_processor: Callable[..., Any]) -> None:
        """Padding of an earlier call is no difference; template, style, tokens of a picture and vocabulary are."""
        first, used = make_processor(), make_processor()
        used(text=["a", "bcd"], padding=True, return_tensors="pt")
        assert first.fingerprint() == used.fingerprint()
        others = [make_processor(num_image_tokens=9), make_processor(prompt_style="chat"), make_processor(chat_template=TEMPLATE)]
        own, more = make_processor(), make_processor()
        own.tokenizer.chat_template = "x" + TEMPLATE
        more.tokenizer.add_tokens(["newword"])
        prints = [p.fingerprint() for p in (first, own, more, *others)]
        assert len(set(prints)) == len(prints)


class TestCall:
    def test_marks_become_placeholders_and_padding_is_left(self, processor: Any, picture: Callable[[int], Any]) -> None:
        batch = processor(text=["<image>ab", "c"], images=[picture(0)], padding=True, return_tensors="pt")
        assert batch["input_ids"].tolist() == [[IMAGE] * 4 + ids_of(processor, "ab"), [257] * 5 + ids_of(processor, "c")]
        assert batch["attention_mask"].tolist() == [[1] * 6, [0] * 5 + [1]]
        assert batch["pixel_values"].shape == (1, 3, 16, 16)

    def test_marks_and_pictures_must_agree(self, processor: Any, picture: Callable[[int], Any]) -> None:
        with pytest.raises(ValueError, match="holds 1 '<image>' and there are 2 pictures"):
            processor(text="<image>", images=[picture(0), picture(1)])


class TestFiles:
    def test_everything_is_saved(self, make_processor: Callable[..., Any], tmp_path: Any) -> None:
        made = make_processor(prompt_style="chat", chat_template=TEMPLATE, num_image_tokens=4)
        made.save_pretrained(tmp_path)
        loaded = LvlmProcessor.from_pretrained(tmp_path)
        assert (loaded.prompt_style, loaded.num_image_tokens, loaded.chat_template) == ("chat", 4, TEMPLATE)
        assert loaded.image_processor.to_dict() == made.image_processor.to_dict()
        assert loaded.tokenizer.padding_side == "left"
        assert loaded.encode([user("hi")]) == made.encode([user("hi")])

    def test_a_tokenizer_that_splits_the_mark_is_refused(self, make_processor: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="splits '<picture>' into 9 tokens"):
            make_processor(image_token="<picture>")

    def test_an_unknown_style_is_refused(self, make_processor: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="'plain' or 'chat', got 'fancy'"):
            make_processor(prompt_style="fancy")
