"""Pictures and words -> what the model reads: placeholders, token ids, pixels."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from transformers import BatchFeature, ProcessorMixin

from data_tools.records import Message, Part
from vision.images import SquareImageProcessor

PromptStyle = Literal["plain", "chat"]


class Encoded(NamedTuple):
    """Token ids of one conversation, and for each whether a loss falls on it."""

    ids: list[int]
    trains: list[bool]


class LvlmProcessor(ProcessorMixin):
    """Image processor + tokenizer + the way a conversation becomes tokens.

    prompt_style "plain": no template; each image is `num_image_tokens` placeholders and a newline, each text part is
    tokenised by itself with special tokens split, so that data cannot inject control tokens [R: AITQE's sequence].
    prompt_style "chat": the tokenizer's or processor's chat template.
    `processor(text=..., images=...)` is for people: `<image>` in the text is expanded, padding is on the left.
    """

    attributes = ["image_processor", "tokenizer"]

    def __init__(
        self,
        image_processor: SquareImageProcessor | None = None,
        tokenizer: Any = None,
        num_image_tokens: int = 1,
        image_token: str = "<image>",
        prompt_style: PromptStyle = "plain",
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        if prompt_style not in ("plain", "chat"):
            raise ValueError(f"prompt_style is 'plain' or 'chat', got '{prompt_style}'")
        self.num_image_tokens = num_image_tokens
        self.image_token = image_token
        self.prompt_style = prompt_style
        self.image_token_id = _image_token_id(tokenizer, image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.tokenizer.padding_side = "left"  # generation continues the last column

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        return_tensors: str | None = None,
        padding: bool | str = False,
        **kwargs: Any,
    ) -> BatchFeature:
        """Texts with one `<image>` a picture, and the pictures in order -> input_ids, attention_mask, pixel_values.

        Raises ValueError when `<image>` marks and pictures differ in number. The text is trusted: its special tokens
        count. Use `encode` for text that comes from data.
        """
        pictures = [] if images is None else _flat(images)
        data: dict[str, Any] = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            self._check_marks(texts, pictures)
            expanded = [t.replace(self.image_token, self.image_token * self.num_image_tokens) for t in texts]
            kwargs.pop("return_mm_token_type_ids", None)
            data |= self.tokenizer(expanded, padding=padding, return_tensors=return_tensors, **kwargs)
        if pictures:
            data |= self.image_processor(pictures, return_tensors=return_tensors or "np")
        return BatchFeature(data)

    def _check_marks(self, texts: list[str], pictures: list[Any]) -> None:
        marks = sum(t.count(self.image_token) for t in texts)
        if marks != len(pictures):
            raise ValueError(f"the text holds {marks} '{self.image_token}' and there are {len(pictures)} pictures: one mark a picture")

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values"]

    def encode(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation, image placeholders included; ends where the assistant is to speak."""
        if self.prompt_style == "plain":
            return self._plain(messages).ids
        return self._chat(messages, add_generation_prompt)

    def encode_for_training(self, messages: Sequence[Message]) -> Encoded:
        """Ids of a whole conversation, and which of them a loss falls on: the text of messages that train, and its end.

        Raises ValueError where nothing trains, or where a chat template rewrites earlier turns.
        """
        encoded = self._plain(messages) if self.prompt_style == "plain" else self._chat_for_training(messages)
        if not any(encoded.trains):
            raise ValueError("no message of this sample trains: set Message.trains on the assistant's turns")
        return encoded

    def _plain(self, messages: Sequence[Message]) -> Encoded:
        ids: list[int] = []
        trains: list[bool] = []
        for message in messages:
            piece = [token for part in message.parts for token in self._part_ids(part)]
            if message.role == "assistant":
                piece.append(self.tokenizer.eos_token_id)
            ids += piece
            trains += [message.trains] * len(piece)
        return Encoded(ids, trains)

    def _part_ids(self, part: Part) -> list[int]:
        if part.kind == "text":
            return self.text_ids(part.text)
        if part.kind == "image":
            return [self.image_token_id] * self.num_image_tokens + self.text_ids("\n")
        raise ValueError(f"this processor reads text and images, got a part of kind '{part.kind}'")

    def text_ids(self, text: str) -> list[int]:
        """Ids of data: control tokens written in it stay plain text."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def fingerprint(self) -> str:
        """The same for processors that turn conversations into the same tokens."""
        told = [
            _state(self.tokenizer),
            str(self.chat_template),
            self.prompt_style,
            self.image_token,
            str(self.num_image_tokens),
            str(self.tokenizer.eos_token_id),
        ]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()

    def _chat_for_training(self, messages: Sequence[Message]) -> Encoded:
        ids: list[int] = []
        trains: list[bool] = []
        for count, message in enumerate(messages, 1):
            if message.role == "assistant":
                ids, trains = self._grown(ids, trains, self._chat(messages[: count - 1], True), False)
            ids, trains = self._grown(ids, trains, self._chat(messages[:count], False), message.trains)
        return Encoded(ids, trains)

    def _grown(self, ids: list[int], trains: list[bool], longer: list[int], value: bool) -> tuple[list[int], list[bool]]:
        if longer[: len(ids)] != ids:
            raise ValueError("the chat template changes earlier turns when one is added; labels cannot be placed with it")
        return longer, trains + [value] * (len(longer) - len(ids))

    def _chat(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[int]:
        """Templates see data with control tokens only as a mark, which is replaced by its split ids afterwards."""
        hidden: dict[str, str] = {}
        turns = [{"role": m.role, "content": [self._content(part, hidden) for part in m.parts]} for m in messages]
        rendered = self.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
        rendered = rendered.replace(self.image_token, self.image_token * self.num_image_tokens)
        ids: list[int] = []
        for mark, text in hidden.items():
            before, rendered = rendered.split(mark, 1)
            ids += self.tokenizer(before, add_special_tokens=False)["input_ids"] + self.text_ids(text)
        return ids + self.tokenizer(rendered, add_special_tokens=False)["input_ids"]

    def _content(self, part: Part, hidden: dict[str, str]) -> dict[str, str]:
        if part.kind != "text":
            return {"type": part.kind}
        if not any(token in part.text for token in self._control_tokens()):
            return {"type": "text", "text": part.text}
        mark = f"[{secrets.token_hex(16)}]"
        hidden[mark] = part.text
        return {"type": "text", "text": mark}

    def _control_tokens(self) -> list[str]:
        return [token.content for token in self.tokenizer.added_tokens_decoder.values()]


def _flat(images: Any) -> list[Any]:
    return [p for item in images for p in _flat(item)] if isinstance(images, list | tuple) else [images]


def _state(tokenizer: Any) -> str:
    if not tokenizer.is_fast:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps(state | {"padding": None, "truncation": None}, sort_keys=True)  # these two follow the last call


def _image_token_id(tokenizer: Any, image_token: str) -> int:
    ids = tokenizer(image_token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"the tokenizer splits '{image_token}' into {len(ids)} tokens; add it as a special token first")
    return ids[0]
