"""From samples to model inputs through a processor's chat template; what users wrote never becomes a control token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from data_tools.records import Message, Part, Sample

from ..config import UserError
from .conversations import check_pictures

ZERO_WIDTH_SPACE = "\u200b"
_MARKUP = re.compile(r"[<>|\[\]]")


class ChatPrompts:
    """Samples -> left-padded inputs for a processor of transformers (any family).

    A string that the tokenizer or the processor would read as a control token is broken by a zero-width space behind its
    first character; every other text gives exactly the processor's own ids. (transformers 5.23 has `sanitize_control_tokens`;
    it refuses tokenizers that add a start token, and 5.19 lacks it.)
    """

    def room(self, sample: Sample) -> int:
        """0: how many tokens pictures take is not known before the processor ran."""
        return 0

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.controls = control_pattern(processor)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def encode(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` [B, L] and whatever this processor makes of the pictures."""
        texts = [self.render(sample) for sample in samples]
        pictures = [[decoded(image) for image in sample.images] for sample in samples]
        bos = self.tokenizer.bos_token
        inputs = self.processor(
            text=texts,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )
        return dict(inputs)

    def render(self, sample: Sample, *, to_answer: bool = True) -> str:
        """The prompt as one string, with one picture placeholder a picture. Raises ValueError when their numbers differ.

        to_answer: it ends where the assistant is to speak.
        """
        check_pictures(sample)
        if any(part.kind == "video" for message in sample.messages for part in message.parts):
            raise UserError("videos are shown to models of this toolkit only (LVLM, LLaVA, Opt-Visor); show this one frames as pictures")
        safe = [harmless(m, self.controls) for m in sample.messages]
        if self.processor.chat_template is None:
            return self._without_template(safe)
        text: str = self.processor.apply_chat_template([as_chat(m) for m in safe], add_generation_prompt=to_answer, tokenize=False)
        return text

    def answer_ids(self, sample: Sample, text: str) -> list[int]:
        """The tokens of `text` as the whole answer to `sample`: what the template writes before it, and the token that ends the turn
        (the tokenizer's end token where the template writes none)."""
        prompt, whole = self.render(sample), self.render(answered(sample, text), to_answer=False)
        spoken = _broken(text, self.controls).strip()
        at = whole.find(spoken, len(prompt)) if whole.startswith(prompt) else -1
        before, after = (whole[len(prompt) : at], whole[at + len(spoken) :]) if at >= 0 else ("", "")
        closing = re.match(rf"\s*(?:{self.controls.pattern})", after)
        ids = self._behind(prompt, f"{before}{spoken}{closing.group() if closing else ''}")
        return ids if closing else [*ids, self.tokenizer.eos_token_id]

    def _behind(self, prompt: str, text: str) -> list[int]:
        """The tokens of `text` where it follows `prompt`: some tokenizers write the start of a text in another way."""
        first, both, alone = (self.tokenizer.encode(t, add_special_tokens=False) for t in (prompt, prompt + text, text))
        ids: list[int] = both[len(first) :] if both[: len(first)] == first else alone
        return ids

    def tails(self, conversations: Sequence[Sample]) -> list[list[int]] | None:
        """The ids of the words behind the last picture of each conversation, all about the same pictures, without preparing these.

        None where that cannot be told from the text: the processor has another placeholder than its image token, or the
        conversations differ before it.
        """
        mark = getattr(self.processor, "image_token", None)
        texts = [self.render(sample) for sample in conversations]
        if not mark or any(mark not in text for text in texts) or len({text.rpartition(mark)[0] for text in texts}) > 1:
            return None
        # With the placeholder before it, since some tokenizers begin a text with a space.
        rows = self.tokenizer([mark + text.rpartition(mark)[2] for text in texts], add_special_tokens=False)["input_ids"]
        return [row[1:] for row in rows]

    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def _without_template(self, messages: Sequence[Message]) -> str:
        """Placeholders and texts in their order, a newline behind each picture."""
        token = getattr(self.processor, "image_token", None)
        if token is None:
            raise ValueError(
                f"{type(self.processor).__name__} has neither a chat template nor an image token; give the model a chat template"
            )
        return "".join(part.text if part.kind == "text" else f"{token}\n" for m in messages for part in m.parts)


class LvlmPrompts:
    """Samples -> left-padded inputs for our own models: the ids are `LvlmProcessor.encode`'s, plain or chat.

    The tokenizer splits special tokens in data by itself; added tokens that are not marked special are broken here.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.controls = added_pattern(processor.tokenizer, special=False)

    def room(self, sample: Sample) -> int:
        """An upper bound of the tokens that pictures and films of the sample take; of a film without a number of frames, nothing."""
        kinds = [part.kind for message in sample.messages for part in message.parts]
        return kinds.count("image") * (self.processor.num_image_tokens + 1) + kinds.count("video") * self._film_room()

    def _film_room(self) -> int:
        from ..models.films import film_of

        frames = self.processor.video_settings.frames or 0
        film = film_of([3600.0 + second for second in range(frames)], 36000.0, self.processor)
        return sum(film.tokens) + len(film.text.filled("").encode())

    def encode(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` [B, L], `pixel_values` [pictures and frames, 3, H, W], and `clips` where films are reduced."""
        from ..models.batch import clips

        shown = [self._shown(sample) for sample in samples]
        inputs = left_padded([self.ids(sample) for sample in shown], self.pad_id())
        pictures = [decoded(image) for sample in shown for image in sample.images]
        if pictures:
            inputs |= self.processor.image_processor(pictures, return_tensors="pt")
        return inputs | clips(shown, self.processor)

    def ids(self, sample: Sample) -> list[int]:
        from ..models import films

        sample = self._shown(sample)
        (films.check_pictures if isinstance(sample, films.Filmed) else check_pictures)(sample)
        ids: list[int] = self.processor.encode([harmless(m, self.controls) for m in sample.messages], films=films.films_of(sample))
        return ids

    def _shown(self, sample: Sample) -> Sample:
        """With the frames of its videos. UserError for a video that cannot be shown."""
        from ..models.films import filmed

        try:
            return filmed(sample, self.processor)
        except ValueError as error:
            raise UserError(str(error)) from error

    def answer_ids(self, sample: Sample, text: str) -> list[int]:
        """The tokens of `text` as the whole answer to `sample`, as training counts them: the end of the turn included."""
        from ..models.films import films_of

        shown = self._shown(sample)
        *before, last = [harmless(m, self.controls) for m in answered(shown, text).messages]
        told = self.processor.encode_for_training([*(replace(m, trains=False) for m in before), last], films=films_of(shown))
        return [token for token, trains in zip(told.ids, told.trains, strict=True) if trains]

    def tails(self, conversations: Sequence[Sample]) -> list[list[int]] | None:
        """The ids behind the last picture of each conversation, all about the same pictures; None where they differ before it."""
        rows = [self.ids(sample) for sample in conversations]
        picture = self.processor.image_token_id
        if any(picture not in row for row in rows):
            return None
        cuts = [len(row) - row[::-1].index(picture) for row in rows]
        if any(row[:cut] != rows[0][: cuts[0]] for row, cut in zip(rows, cuts, strict=True)):
            return None
        return [row[cut:] for row, cut in zip(rows, cuts, strict=True)]

    def pad_id(self) -> int:
        """Any token does: padding is masked."""
        known = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if known is None else known)


def answered(sample: Sample, text: str) -> Sample:
    """The sample with `text` as the assistant's answer."""
    return replace(sample, messages=(*sample.messages, Message("assistant", (Part("text", text),), trains=True)))


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` [B, L], padding on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def harmless(message: Message, controls: re.Pattern[str]) -> Message:
    """The message with every match of `controls` in its texts broken by a zero-width space."""
    return replace(message, parts=tuple(p if p.kind != "text" else replace(p, text=_broken(p.text, controls)) for p in message.parts))


def _broken(text: str, controls: re.Pattern[str]) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates would stop the tokenizer
    return controls.sub(lambda found: found.group()[0] + ZERO_WIDTH_SPACE + found.group()[1:], text)


def control_pattern(processor: Any) -> re.Pattern[str]:
    """Matches every string that tokenizer or processor treat as more than text."""
    marks = {value for name, value in vars(processor).items() if name.endswith("_token") and isinstance(value, str)}
    return any_of(
        {t.content for t in added(processor.tokenizer, special=True)}
        | marks
        | {t.content for t in added(processor.tokenizer, special=False)}
    )


def added_pattern(tokenizer: Any, *, special: bool) -> re.Pattern[str]:
    """Matches the tokenizer's added tokens, special ones or the others."""
    return any_of({token.content for token in added(tokenizer, special=special)})


def added(tokenizer: Any, *, special: bool) -> list[Any]:
    """Added tokens; of those not special only such as look like markup (others are ordinary words or white space)."""
    every = tokenizer.added_tokens_decoder.values()
    return [t for t in every if (t.special if special else not t.special and _MARKUP.search(t.content))]


def any_of(texts: set[str]) -> re.Pattern[str]:
    """Matches any of `texts`, longer ones first; nothing for none."""
    longest_first = sorted((text for text in texts if text.strip()), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def as_chat(message: Message) -> dict[str, Any]:
    """The message as chat templates expect it."""
    parts = [{"type": "text", "text": p.text} if p.kind == "text" else {"type": p.kind} for p in message.parts]
    return {"role": message.role, "content": parts}


def decoded(image: Any) -> Any:
    """The RGB picture of a record, decoded now if nobody has. Raises BadImage."""
    if image.pixels is not None:
        return image.pixels
    from data_tools.io.images import decode

    return decode(image).pixels


def append(inputs: dict[str, torch.Tensor], tokens: Sequence[int]) -> dict[str, torch.Tensor]:
    """The inputs with the same `tokens` behind every row."""
    if not tokens:
        return inputs
    ids = inputs["input_ids"]
    tail = torch.tensor([list(tokens)], dtype=ids.dtype).expand(ids.shape[0], -1)
    grown = {**inputs, "input_ids": torch.cat([ids, tail], dim=1)}
    grown["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(tail)], dim=1)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            grown[name] = torch.cat([inputs[name], torch.zeros_like(tail)], dim=1)
    return grown


def assert_left_padded(mask: torch.Tensor) -> None:
    """Raise ValueError unless every row of `mask` [B, L] is zeros followed by ones."""
    if bool((mask[:, -1] == 0).any()) or bool((mask[:, 1:] < mask[:, :-1]).any()):
        raise ValueError("the prompts are not padded on the left; batched answers would differ from single ones")
