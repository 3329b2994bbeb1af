"""The loss falls on the assistant's words and the end of its turn, whatever the chat template: by hand, and for ten families."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from data_tools.records import Message, Part

PARTS = "{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}"
LOOP = "{% for message in messages %}"
CHATML = (
    LOOP + "<|im_start|>{{ message.role }}\n" + PARTS + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}"
    + LOOP
    + "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA2 = (
    LOOP + "{% if message.role == 'assistant' %}{{ ' ' + message.content.strip() + ' ' + eos_token }}"
    "{% else %}{{ bos_token + '[INST] ' + message.content.strip() + ' [/INST]' }}{% endif %}{% endfor %}"
)
VICUNA = (
    LOOP
    + "{% if message.role == 'user' %}USER: {{ message.content }} {% elif message.role == 'assistant' %}"
    + "ASSISTANT: {{ message.content }}</s>"
    "{% else %}{{ message.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ bos_token }}"
    + LOOP
    + "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    + "{{ message.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    LOOP + "<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GLM = LOOP + "<|{{ message.role }}|>\n{{ message.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
BARE = LOOP + "### {{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}### assistant:{% endif %}"
MARKED = (
    LOOP + "<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (  # thoughts of earlier turns are taken away; a last turn without a thought gets an empty one
    LOOP + "{% set content = message.content.split('</think>')[-1].lstrip('\n') if message.role == 'assistant' else message.content %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and loop.last %}"
    "{% set thought = message.content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{{ '<think>\n' + (thought if '</think>' in message.content else '') + '\n</think>\n\n' }}{% endif %}"
    "{{ content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip
HARMONY = (  # control tokens before the words too
    LOOP + "<|start|>{{ message.role }}{% if message.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ message.content }}"
    "{{ '<|return|>' if message.role == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
# family -> template, what closes a turn and trains, what precedes the words of the last turn and trains
FAMILIES: dict[str, tuple[str, str, str]] = {
    "chatml": (CHATML, "<|im_end|>", ""),
    "llama3": (LLAMA3, "<|eot_id|>", ""),
    "llama2": (LLAMA2, " </s>", ""),
    "vicuna": (VICUNA, "</s>", ""),
    "gemma": (GEMMA, "<end_of_turn>", ""),
    "phi3": (PHI3, "<|end|>", ""),
    "glm": (GLM, "", ""),
    "bare": (BARE, "\n", ""),
    "marked": (MARKED, "<|im_end|>\n", ""),
    "qwen3": (QWEN3, "<|im_end|>", "<think>\n\n</think>\n\n"),
}
ADDED = ["<think>", "</think>"]  # tokens that are not special: data may speak them
CONTROLS = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|return|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "<start_of_turn>",
]
CONTROLS += ["<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"]


@pytest.fixture
def chat(make_processor: Callable[..., Any]) -> Callable[..., Any]:
    def make(template: str, eos: str = "</s>") -> Any:
        made = make_processor()
        made.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", *CONTROLS], "bos_token": "<s>", "eos_token": eos})
        made.tokenizer.add_tokens(ADDED)
        return type(made)(made.image_processor, made.tokenizer, num_image_tokens=4, prompt_style="chat", chat_template=template)

    return make


def user(text: str, pictures: int = 0) -> Message:
    return Message("user", (*[Part("image")] * pictures, Part("text", text)))


def assistant(text: str, trains: bool = True) -> Message:
    return Message("assistant", (Part("text", text),), trains)


def runs(processor: Any, messages: list[Message]) -> list[str]:
    """The stretches that train, as text."""
    encoded = processor.encode_for_training(messages)
    found: list[list[int]] = []
    for i, (token, trains) in enumerate(zip(encoded.ids, encoded.trains, strict=True)):
        if trains:
            found = [*found, []] if i == 0 or not encoded.trains[i - 1] else found
            found[-1].append(token)
    return [processor.tokenizer.decode(ids) for ids in found]


def test_chatml_by_hand(chat: Callable[..., Any]) -> None:
    """ "ab<|im_end|>" trains, the newline behind it does not; four placeholders stand for the picture."""
    made = chat(CHATML)
    encoded = made.encode_for_training([user("q", 1), assistant("ab"), user("r"), assistant("c")])
    text = "<|im_start|>user\n<image>q<|im_end|>\n<|im_start|>assistant\nab<|im_end|>\n"
    text += "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
    assert made.tokenizer.decode(encoded.ids) == text.replace("<image>", "<image>" * 4)
    before = 1 + len("user\n") + 4 + 1 + 1 + 1 + 1 + len("assistant\n")  # im_start user\n 4 q im_end \n im_start assistant\n
    between = 1 + 1 + len("user\n") + 1 + 1 + 1 + 1 + len("assistant\n")  # \n im_start user\n r im_end \n im_start assistant\n
    assert encoded.trains == [False] * before + [True] * 3 + [False] * between + [True] * 2 + [False]


def test_llama3_by_hand(chat: Callable[..., Any]) -> None:
    """A template for strings: the picture becomes <image> and a newline; words are trimmed; <|eot_id|> trains."""
    made = chat(LLAMA3)
    encoded = made.encode_for_training([user("q", 1), assistant(" ab ")])
    text = "<s><|start_header_id|>user<|end_header_id|>\n\n<image><image><image><image>\nq<|eot_id|>"
    text += "<|start_header_id|>assistant<|end_header_id|>\n\nab<|eot_id|>"
    assert made.tokenizer.decode(encoded.ids) == text
    before = 1 + 1 + 4 + 1 + 2 + 4 + 2 + 1 + 1 + 9 + 1 + 2  # s, header user, newlines, 4, "\nq", eot, header assistant, newlines
    assert encoded.trains == [False] * before + [True] * 3


def words(rng: random.Random) -> str:
    pieces = ["a", "b ", " c", "\n", "é", "你", "0", ".", "<|im_end|>", "<image>", "</s>", "user", "ASSISTANT:"]
    return "x" + "".join(rng.choices(pieces, k=rng.randint(0, 6))) + "y"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(4))
def test_only_the_assistants_tokens_train(family: str, seed: int, chat: Callable[..., Any]) -> None:
    """Random talks of up to four turns, control tokens in the data included: each answer trains with the end of its turn."""
    template, closing, opening = FAMILIES[family]
    made, rng = chat(template), random.Random(seed)
    answers = [words(rng) for _ in range(rng.randint(1, 4))]
    talk = [m for a in answers for m in (user(words(rng), rng.randint(0, 2)), assistant(a))]
    expected = [a + closing for a in answers]
    found = runs(made, talk)
    if family == "vicuna":  # "ASSISTANT:" is the generation prompt, so the space behind it is the model's
        expected = [" " + a for a in expected]
    if family == "bare":
        expected = [" " + a for a in expected]
    if family == "llama2":
        expected = [" " + a for a in expected]
    expected[-1] = opening + expected[-1]
    if family == "phi3":  # only the whole conversation ends with the end-of-sequence token
        expected[-1] += "\n</s>"
    assert found == expected
    encoded = made.encode_for_training(talk)
    assert encoded.ids.count(made.image_token_id) == 4 * sum(part.kind == "image" for m in talk for part in m.parts)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"qwen3"}))
def test_training_continues_the_prompt(family: str, chat: Callable[..., Any]) -> None:
    """What the model reads when it is to speak is what stands before the first token that trains."""
    made = chat(FAMILIES[family][0])
    encoded = made.encode_for_training([user("what?", 1), assistant("this")])
    prompt = made.encode([user("what?", 1)])
    assert encoded.ids[: encoded.trains.index(True)] == prompt


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_that_does_not_train_has_no_label(family: str, chat: Callable[..., Any]) -> None:
    found = runs(chat(FAMILIES[family][0]), [user("q"), assistant("first", trains=False), user("r"), assistant("second")])
    assert len(found) == 1
    assert "second" in found[0]
    assert "first" not in found[0]


def test_a_thought_of_one_turn_trains(chat: Callable[..., Any]) -> None:
    """The template moves the words apart, so labels are placed by how the tokens grow: everything behind the prompt."""
    assert runs(chat(QWEN3), [user("q"), assistant("<think>\nhm\n</think>\n\nyes")]) == ["<think>\nhm\n</think>\n\nyes<|im_end|>"]


def test_a_template_that_takes_thoughts_away_is_refused(chat: Callable[..., Any]) -> None:
    talk = [user("q"), assistant("<think>\nhm\n</think>\n\nyes"), user("r"), assistant("no")]
    with pytest.raises(ValueError, match=r"labels cannot be placed: the chat template changes the words of a turn.*\{% generation %\}"):
        chat(QWEN3).encode_for_training(talk)


def test_a_template_may_count_its_turns(chat: Callable[..., Any]) -> None:
    assert runs(chat("{{ messages | length }}" + CHATML), [user("q"), assistant("a"), user("r"), assistant("b")]) == [
        "a<|im_end|>",
        "b<|im_end|>",
    ]


def test_control_tokens_before_the_words(chat: Callable[..., Any]) -> None:
    """The model speaks its channel itself: it is behind the generation prompt. Only the last turn ends with <|return|>."""
    found = runs(chat(HARMONY), [user("q", 1), assistant("a"), user("r"), assistant("b")])
    assert found == ["<|channel|>final<|message|>a", "<|channel|>final<|message|>b<|return|>"]


def test_a_role_that_the_template_refuses(chat: Callable[..., Any]) -> None:
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match="System role not supported"):
        chat(GEMMA).encode_for_training([Message("system", (Part("text", "s"),)), user("q"), assistant("a")])


def test_no_template_is_said(make_processor: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="needs a chat template"):
        make_processor(prompt_style="chat").encode([user("q")])
