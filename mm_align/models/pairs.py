"""Preference pairs -> one batch: prompt, chosen and rejected answer in one row, or a row for each answer.

The tensors beside the model's inputs are those of `mm_align.losses.answer_logps`. Prompt and answer are tokenised together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from jinja2 import TemplateError

from data_tools.io.refusals import RowError
from data_tools.records import Image, Message, Part, PreferencePair, Sample

from .batch import Pictures, Tokens, pad_id, same_picture
from .corruptions import Corruption
from .films import check_pictures
from .processor import LvlmProcessor
from .shared_prompt import Ids, Rows, duplicated_rows, shared_rows

Layout = Literal["shared", "duplicated"]
ATTENTION_COUNTS_FROM = 1024  # places of a row at which attention takes as long as the weights, in a model some 200 wide


@dataclass(frozen=True, slots=True)
class PreparedPair:
    """A pair as tokens, made once and read in every epoch: the prompt's sample, and both whole conversations.

    reference, contrast_reference: what a reference model gives each answer token, (chosen, rejected) float32, where it was asked.
    """

    sample: Sample
    chosen: Tokens
    rejected: Tokens
    margin: float = 0.0
    reference: tuple[np.ndarray, np.ndarray] | None = None
    contrast_reference: tuple[np.ndarray, np.ndarray] | None = None


def prepare_pair(pair: PreferencePair, processor: LvlmProcessor, max_length: int | None = None) -> PreparedPair:
    """The pair's tokens. RowError with a reason where it cannot be trained on: nothing of an answer is ever cut.

    Reasons: equal_answers, empty_answer, bad_margin (no finite number), image_count, too_long (either conversation has more than
    `max_length` tokens, pictures included), chat_template, not_encodable.
    """
    if not math.isfinite(pair.margin):
        raise RowError("bad_margin", f"the margin of a pair is a finite number, and here it is {pair.margin}")
    try:
        check_pictures(pair.sample)
    except ValueError as error:
        raise RowError("image_count", str(error)) from error
    for name, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not text.strip():
            raise RowError("empty_answer", f"the {name} answer is empty")
    chosen, rejected = (_conversation(pair.sample, text, processor) for text in (pair.chosen, pair.rejected))
    if np.array_equal(chosen.ids, rejected.ids):
        raise RowError("equal_answers", "the chosen and the rejected answer are the same tokens")
    longest = max(len(chosen.ids), len(rejected.ids))
    if max_length is not None and longest > max_length:
        raise RowError("too_long", f"prompt and answer have {longest} tokens, and max_length is {max_length}")
    return PreparedPair(pair.sample, chosen, rejected, pair.margin)


def answered(sample: Sample, text: str) -> tuple[Message, ...]:
    """The prompt's messages with `text` as the one answer that trains."""
    before = tuple(replace(message, trains=False) for message in sample.messages)
    return (*before, Message("assistant", (Part("text", text),), trains=True))


def _conversation(sample: Sample, text: str, processor: LvlmProcessor) -> Tokens:
    try:
        return Tokens.of(processor.encode_for_training(answered(sample, text)))
    except TemplateError as error:
        raise RowError("chat_template", f"the chat template refuses the conversation: {error}") from error
    except ValueError as error:
        raise RowError("not_encodable", str(error)) from error


def collate_pairs(
    pairs: Sequence[PreparedPair],
    processor: LvlmProcessor,
    *,
    layout: Layout = "shared",
    corruption: Corruption | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """P pairs -> the model's inputs and `answer_ids`, `answer_mask`, `answer_places` [2P, T], `margins` [P].

    layout "shared": a row a pair, or a row for all pairs about the same pictures where that is less work (input_ids, position_ids,
    visible_until [B, L]); "duplicated": a row an answer (input_ids, attention_mask [2P, L]). Both give the same answer_logps. A picture
    that several rows show is passed once, with `picture_index`. `reference_logps` and `contrast_reference_logps` [2P, T] where the pairs
    have them. corruption: what `contrast_pixel_values` show. dtype is that of the pixels.
    """
    answers = [answer_of(tokens) for tokens in (*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs))]
    inputs = [answer.inputs for answer in answers]
    shared = layout == "shared"
    rows = _fewest_places(inputs, [pair.sample for pair in pairs]) if shared else duplicated_rows(inputs)
    batch = _row_inputs(rows, inputs, pad_id(processor), shared) | answer_tensors(answers, rows)
    batch["margins"] = torch.tensor([pair.margin for pair in pairs], dtype=torch.float32)
    for name, scores in (("reference_logps", "reference"), ("contrast_reference_logps", "contrast_reference")):
        batch |= _reference(name, [getattr(pair, scores) for pair in pairs], batch["answer_mask"])
    shown = Pictures.of(_shown(rows, inputs, [pair.sample.images for pair in pairs] * 2, processor))
    batch |= shown.tensors(processor, dtype)
    if corruption is not None and shown.distinct:
        batch["contrast_pixel_values"] = torch.from_numpy(corruption.pixels(shown.distinct, processor.image_processor)).to(dtype)
    return {key: value.to(device) for key, value in batch.items()}


def _fewest_places(inputs: Sequence[Ids], samples: Sequence[Sample]) -> Rows:
    """Rows of the pairs by themselves, or of all pairs about the same pictures together: what takes less work, padding counted."""
    count = len(samples)
    together: dict[Hashable, list[int]] = {}
    for number, sample in enumerate(samples):
        shown = tuple(same_picture(image) for image in sample.images) or number
        together.setdefault(shown, []).extend((number, count + number))
    alone = shared_rows(inputs, [(number, count + number) for number in range(count)])
    return alone if len(together) == count else min(alone, shared_rows(inputs, list(together.values())), key=_work)


def _work(rows: Rows) -> int:
    """Of a small model: places, each with its share of the layers' weights and of attention to a whole row."""
    count, length = rows.token.shape
    return count * length * (ATTENTION_COUNTS_FROM + length)


class Answer(NamedTuple):
    """What the model reads, up to the last place that predicts; the answer's tokens; where each stands in the conversation."""

    inputs: Ids
    ids: Ids
    at: Ids


def answer_of(tokens: Tokens) -> Answer:
    at = np.flatnonzero(tokens.trains[1:]) + 1  # nothing stands before the first token, so nothing predicts it
    return Answer(tokens.ids[: at[-1]], tokens.ids[at], at)


def _row_inputs(rows: Rows, inputs: Sequence[Ids], pad: int, shared: bool) -> dict[str, torch.Tensor]:
    found = {"input_ids": torch.from_numpy(rows.take(inputs, pad))}
    if not shared:
        return found | {"attention_mask": torch.from_numpy((rows.token >= 0).astype(np.int64))}
    return found | {"position_ids": torch.from_numpy(rows.token.clip(min=0)), "visible_until": torch.from_numpy(rows.until)}


def answer_tensors(answers: Sequence[Answer], rows: Rows) -> dict[str, torch.Tensor]:
    shape = (len(answers), max(len(answer.ids) for answer in answers))
    ids, places, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for n, answer in enumerate(answers):
        span = slice(0, len(answer.ids))
        ids[n, span], mask[n, span] = torch.from_numpy(answer.ids), True
        places[n, span] = torch.from_numpy(rows.places[n][answer.at - 1])
    return {"answer_ids": ids, "answer_mask": mask, "answer_places": places}


def _reference(name: str, scores: Sequence[tuple[np.ndarray, np.ndarray] | None], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """[N, T] of the pairs' scores; nothing where no pair has any. ValueError where some lack them or their lengths differ."""
    known = [pair for pair in scores if pair is not None]
    if not known:
        return {}
    flat = [side for column in zip(*known, strict=True) for side in column]
    if len(known) < len(scores) or [len(side) for side in flat] != mask.sum(1).tolist():
        raise ValueError(f"{name}: {len(known)} of {len(scores)} pairs have scores, and each answer token needs one")
    found = torch.zeros(mask.shape)
    return {name: found.masked_scatter(mask, torch.from_numpy(np.concatenate(flat)))}


def _shown(rows: Rows, inputs: Sequence[Ids], images: Sequence[tuple[Image, ...]], processor: LvlmProcessor) -> Iterator[Image]:
    """The pictures in the order in which the rows show them."""
    size, numbers = processor.num_image_tokens, []
    for ids in inputs:
        ordinal = np.where(ids == processor.image_token_id, (ids == processor.image_token_id).cumsum() - 1, -1)
        numbers.append(np.where(ordinal % size == 0, ordinal // size, -1))  # the picture that begins at this token
    found = rows.take(numbers, -1)
    for place in map(tuple, np.argwhere(found >= 0)):
        yield images[rows.sequence[place]][found[place]]
