"""Pictures and words -> what the model reads: placeholders, token ids, pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from transformers import BatchFeature, ProcessorMixin

from data_tools.records import Message, Part
from vision.images import SquareImageProcessor

from .chat import FILM, Chat, Rendered, Unplaceable
from .films import Film
from .video_settings import VideoSettings

PromptStyle = Literal["plain", "chat"]


class Encoded(NamedTuple):
    """Token ids of one conversation, and for each whether a loss falls on it."""

    ids: list[int]
    trains: list[bool]


class LvlmProcessor(ProcessorMixin):
    """Image processor + tokenizer + the way a conversation becomes tokens.

    prompt_style "plain": no template; each image is `num_image_tokens` placeholders and a newline, each text part is
    tokenised by itself with special tokens split, so that data cannot inject control tokens [R: AITQE's sequence].
    prompt_style "chat": the tokenizer's or processor's chat template. video: `LvlmConfig.video_of_prompts`, how films are shown.
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
        video: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if prompt_style not in ("plain", "chat"):
            raise ValueError(f"prompt_style is 'plain' or 'chat', got '{prompt_style}'")
        self.num_image_tokens = num_image_tokens
        self.image_token = image_token
        self.prompt_style = prompt_style
        self.video = video
        self.image_token_id = _image_token_id(tokenizer, image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self._chat: Chat | None = None
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

    @property
    def video_settings(self) -> VideoSettings:
        """How films are shown."""
        return VideoSettings.of({key: value for key, value in (self.video or {}).items() if key != "grid"})

    @property
    def film_grid(self) -> tuple[int, int] | None:
        """Rows and columns of the tokens that films are reduced from; None where they are not."""
        grid = (self.video or {}).get("grid")
        return None if grid is None else (int(grid[0]), int(grid[1]))

    def encode(self, messages: Sequence[Message], *, films: Sequence[Film] = (), add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation, image placeholders included; ends where the assistant is to speak. films: one a video part."""
        if self.prompt_style == "plain":
            return self._plain(messages, films).ids
        return self._chat_ids(messages, films, add_generation_prompt)

    def encode_for_training(self, messages: Sequence[Message], *, films: Sequence[Film] = ()) -> Encoded:
        """Ids of a whole conversation, and which of them a loss falls on: the text of messages that train, and its end.

        Raises ValueError where nothing trains, or where a chat template rewrites earlier turns.
        """
        plain = self.prompt_style == "plain"
        encoded = self._plain(messages, films) if plain else self._chat_for_training(messages, films)
        if not any(encoded.trains):
            raise ValueError("no message of this sample trains: set Message.trains on the assistant's turns")
        return encoded

    def _plain(self, messages: Sequence[Message], films: Sequence[Film]) -> Encoded:
        ids: list[int] = []
        trains: list[bool] = []
        shown = iter(films)
        for message in messages:
            piece = [token for part in message.parts for token in self._part_ids(part, shown)]
            if message.role == "assistant":
                piece.append(self.tokenizer.eos_token_id)
            ids += piece
            trains += [message.trains] * len(piece)
        return Encoded(ids, trains)

    def _part_ids(self, part: Part, films: Iterator[Film]) -> list[int]:
        if part.kind == "text":
            return self.text_ids(part.text)
        if part.kind == "image":
            return [self.image_token_id] * self.num_image_tokens + self.text_ids("\n")
        return self.film_ids(next_film(films))

    def film_ids(self, film: Film) -> list[int]:
        """Ids of a film: control tokens in the text around its frames count, since the style wrote them."""
        pieces = [film.text.head]
        for before, after in film.text.frames:
            pieces[-1] += before
            pieces.append(after)
        pieces[-1] += film.text.tail
        ids: list[int] = []
        for piece, count in zip(pieces, [*film.tokens, 0], strict=True):
            ids += (self.tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []) + [self.image_token_id] * count
        return ids

    def text_ids(self, text: str) -> list[int]:
        """Ids of data: control tokens written in it stay plain text."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def fingerprint(self) -> str:
        """The same for processors that turn conversations into the same tokens."""
        told = [
            _state(self.tokenizer),
            str(self.chat_template or self.tokenizer.chat_template),
            self.prompt_style,
            self.image_token,
            str(self.num_image_tokens),
            str(self.tokenizer.eos_token_id),
            *([] if self.video is None else [json.dumps(self.video, sort_keys=True)]),
        ]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()

    @property
    def chat(self) -> Chat:
        """The chat template, ready to use. Raises ValueError when there is none."""
        template = self.chat_template or self.tokenizer.chat_template
        if not isinstance(template, str):
            raise ValueError(
                "prompt_style 'chat' needs a chat template, and neither processor nor tokenizer has one; give one, or use 'plain'"
            )
        if self._chat is None or self._chat.template != template:
            self._chat = Chat(template, self.image_token, list(self._controls().values()), self.tokenizer.special_tokens_map)
        return self._chat

    def _chat_ids(self, messages: Sequence[Message], films: Sequence[Film], add_generation_prompt: bool) -> list[int]:
        return self._tokens(self.chat.render(messages, add_generation_prompt=add_generation_prompt), films).ids

    def _chat_for_training(self, messages: Sequence[Message], films: Sequence[Film]) -> Encoded:
        try:
            rendered = self.chat.render_for_training(messages) if self.tokenizer.is_fast else None
        except Unplaceable as error:
            return self._turn_by_turn(messages, films, str(error))
        if rendered is None:
            return self._turn_by_turn(messages, films, "a tokenizer in pure Python does not say where its tokens stand in the text")
        return self._tokens(rendered, films)

    def _tokens(self, rendered: Rendered, films: Sequence[Film]) -> Encoded:
        """Ids of a rendered conversation: hidden data split into plain text, placeholders as many as tokens of a picture, films.

        A token trains when any character of it lies in a span.
        """
        pieces, at, left = [], 0, rendered.text
        shown = iter(films)
        for mark, text in rendered.hidden.items():
            film = next_film(shown) if text == FILM else None
            if mark not in left:  # a turn that the template does not show
                continue
            before, left = left.split(mark, 1)
            pieces += [self._piece(before, at, rendered.spans)]
            at += len(before)
            pieces += [self._hidden(text, at, rendered.spans) if film is None else self._film(film)]
            at += len(mark)
        pieces += [self._piece(left, at, rendered.spans)]
        ids = np.concatenate([np.array(piece.ids, np.int64) for piece in pieces])
        trains = np.concatenate([piece.trains for piece in pieces]) & (ids != self.image_token_id)
        repeats = np.where(ids == self.image_token_id, np.concatenate([piece.repeats for piece in pieces]), 1)
        return Encoded(np.repeat(ids, repeats).tolist(), np.repeat(trains, repeats).tolist())

    def _piece(self, text: str, at: int, spans: Sequence[tuple[int, int]]) -> _Piece:
        if not spans:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return self._as_piece(ids, np.zeros(len(ids), bool))
        told = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return self._as_piece(told["input_ids"], _within(np.array(told["offset_mapping"], np.int64).reshape(-1, 2) + at, spans))

    def _as_piece(self, ids: list[int], trains: np.ndarray) -> _Piece:
        return _Piece(ids, trains, np.full(len(ids), self.num_image_tokens))

    def _hidden(self, text: str, at: int, spans: Sequence[tuple[int, int]]) -> _Piece:
        ids = self.text_ids(text)
        return self._as_piece(ids, _within(np.tile([at, at + 1], (len(ids), 1)), spans))

    def _film(self, film: Film) -> _Piece:
        ids = self.film_ids(film)
        return _Piece(ids, np.zeros(len(ids), bool), np.ones(len(ids), np.int64))

    def _turn_by_turn(self, messages: Sequence[Message], films: Sequence[Film], why: str) -> Encoded:
        """The second way, for templates that change words: the tokens by which a conversation grows with each turn."""
        ids: list[int] = []
        trains = np.zeros(0, bool)
        for count, message in enumerate(messages, 1):
            if message.role == "assistant":
                ids, trains = _grown(ids, trains, self._chat_ids(messages[: count - 1], films, True), False, why)
            before = len(ids)
            ids, trains = _grown(ids, trains, self._chat_ids(messages[:count], films, False), message.trains, why)
            trains[before + self._end(ids[before:]) :] = False
        return Encoded(ids, (trains & (np.array(ids) != self.image_token_id)).tolist())

    def _controls(self) -> dict[int, str]:
        """Special tokens by id. Others that were added (<think>, say) are words: data may hold them, and templates look for them."""
        return {i: token.content for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}

    def _end(self, turn: list[int]) -> int:
        """Where a turn ends: behind its last control token, if only white space follows."""
        controls = np.flatnonzero(np.isin(turn, list(self._controls())))
        end = int(controls[-1]) + 1 if len(controls) else len(turn)
        return len(turn) if self.tokenizer.decode(turn[end:]).strip() else end


class _Piece(NamedTuple):
    """Ids of a stretch of text, for each whether it lies in a span, and how many a placeholder becomes."""

    ids: list[int]
    trains: np.ndarray
    repeats: np.ndarray


def next_film(films: Iterator[Film]) -> Film:
    """ValueError where there are more video parts than films."""
    found = next(films, None)
    if found is None:
        raise ValueError("a video part of these messages has no frames; decode them first (`mm_align.models.films.filmed`)")
    return found


def _within(places: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Whether each token [n, 2] (first character, end) overlaps a span. Spans are sorted and apart."""
    if not spans:
        return np.zeros(len(places), bool)
    first, last = np.array(spans, np.int64).T
    near = np.searchsorted(first, places[:, 1]) - 1  # the last span that begins before the token's end
    return (near >= 0) & (places[:, 0] < last[near])


def _grown(ids: list[int], trains: np.ndarray, longer: list[int], value: bool, why: str) -> tuple[list[int], np.ndarray]:
    if longer[: len(ids)] != ids:
        raise ValueError(
            f"labels cannot be placed: {why}, and it changes earlier turns when one is added. "
            "Put {% generation %} ... {% endgeneration %} around the assistant's words in the chat template"
        )
    return longer, np.concatenate([trains, np.full(len(longer) - len(ids), value)])


def _flat(images: Any) -> list[Any]:
    return [p for item in images for p in _flat(item)] if isinstance(images, list | tuple) else [images]


def _state(tokenizer: Any) -> str:
    if not tokenizer.is_fast:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps(state | {"padding": None, "truncation": None}, sort_keys=True)  # these two follow the last call


def is_one_token(tokenizer: Any, text: str) -> bool:
    """Whether the tokenizer knows `text` as one token of its own: the token of unknown words stands for others too."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id


def _image_token_id(tokenizer: Any, image_token: str) -> int:
    ids = tokenizer(image_token, add_special_tokens=False)["input_ids"]
    if not is_one_token(tokenizer, image_token):
        found = f"splits '{image_token}' into {len(ids)} tokens" if len(ids) != 1 else f"does not know '{image_token}'"
        raise ValueError(f"the tokenizer {found}; add it as a special token first")
    return ids[0]
