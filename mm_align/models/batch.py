"""Where records become tensors: samples -> one batch that the model takes."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch

from data_tools.io.images import decode
from data_tools.records import Image, Sample

from ..losses.base import IGNORE
from .films import check_pictures, clips_of, filmed, films_of
from .processor import Encoded, LvlmProcessor


class Tokens(NamedTuple):
    """Ids [L] of a conversation, and for each whether a loss falls on it."""

    ids: np.ndarray
    trains: np.ndarray

    @classmethod
    def of(cls, encoded: Encoded) -> Tokens:
        return cls(np.array(encoded.ids, np.int64), np.array(encoded.trains, bool))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sample and the tokens of its whole conversation, made once and read in every epoch."""

    sample: Sample
    encoded: Tokens


Row = Sample | Prepared


def collate(
    samples: Sequence[Row],
    processor: LvlmProcessor,
    *,
    for_training: bool,
    max_length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Samples -> input_ids and attention_mask [B, L], pixel_values [m, 3, H, W] (absent without pictures), labels [B, L].

    A picture that several samples show is decoded and passed once; then picture_index [n] says which of the m pictures
    each place of the prompts shows. for_training: right padding, and labels that are -100 but where a message trains.
    Otherwise left padding, no labels, and prompts that end where the assistant is to speak. max_length cuts training rows
    at the end, never inside a picture. dtype is that of the pixels. Raises ValueError when a sample's image parts and
    images differ in number, or nothing of it trains; BadImage for a picture that cannot be decoded.
    """
    samples = [_filmed(row, processor) for row in samples]
    rows = [_encoded(row, processor, for_training, max_length) for row in samples]
    batch = _padded(rows, pad_id(processor), left=not for_training)
    if not for_training:
        del batch["labels"]
    batch |= Pictures.of(image for row in samples for image in _sample(row).images).tensors(processor, dtype)
    batch |= clips([_sample(row) for row in samples], processor)
    return {key: value.to(device) for key, value in batch.items()}


def collate_packs(
    packs: Sequence[Sequence[Row]],
    processor: LvlmProcessor,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Training samples laid end to end, one pack a row: as `collate`, with position_ids [B, L] in place of attention_mask.

    Positions start at 0 with each sample. From that, and from the absence of a mask, the library's models let no sample
    see another (`find_packed_sequence_indices` of its masking_utils); `mm_align.train.packing.check_packing` proves it of a
    model. Padding is a sample of its own. The first label of a sample is -100: nothing of the sample stands before it.
    """
    packs = [[_filmed(row, processor) for row in pack] for pack in packs]
    rows = [[_encoded(row, processor, True, None) for row in pack] for pack in packs]
    joined = [_end_to_end(pack) for pack in rows]
    batch = _padded(joined, pad_id(processor), left=False)
    del batch["attention_mask"]
    batch["position_ids"] = _positions(rows, batch["input_ids"].shape[1])
    batch |= Pictures.of(image for pack in packs for row in pack for image in _sample(row).images).tensors(processor, dtype)
    batch |= clips([_sample(row) for pack in packs for row in pack], processor)
    return {key: value.to(device) for key, value in batch.items()}


def _end_to_end(pack: Sequence[Tokens]) -> Tokens:
    starts = np.concatenate([np.arange(len(row.ids)) == 0 for row in pack])
    return Tokens(np.concatenate([row.ids for row in pack]), np.concatenate([row.trains for row in pack]) & ~starts)


def _positions(rows: Sequence[Sequence[Tokens]], length: int) -> torch.Tensor:
    """[B, L], counted from 0 in every sample and in the padding."""
    lines = []
    for pack in rows:
        sizes = [len(row.ids) for row in pack]
        lines.append(np.concatenate([np.arange(size) for size in [*sizes, length - sum(sizes)]]))
    return torch.from_numpy(np.stack(lines))


def _sample(row: Row) -> Sample:
    return row.sample if isinstance(row, Prepared) else row


def _filmed(row: Row, processor: LvlmProcessor) -> Row:
    """With the frames of its videos, decoded now."""
    sample = filmed(_sample(row), processor)
    return Prepared(sample, row.encoded) if isinstance(row, Prepared) else sample


def clips(samples: Sequence[Sample], processor: LvlmProcessor) -> dict[str, torch.Tensor]:
    """`clips` [k, 2] of the films in a batch, see `LvlmForConditionalGeneration.forward`; nothing where no film is reduced, since frames
    are then pictures like any other."""
    if processor.video_settings.reducer is None:
        return {}
    found, place = [], 0
    for frames in (frames for sample in samples for frames in clips_of(sample)):
        found += [] if frames is None else [[place, frames]]
        place += 1 if frames is None else frames
    return {"clips": torch.tensor(found)} if found else {}


def _encoded(row: Row, processor: LvlmProcessor, for_training: bool, max_length: int | None) -> Tokens:
    if isinstance(row, Prepared):
        return _cut(row.encoded, max_length, processor.image_token_id, row.sample.id)
    check_pictures(row)
    if not for_training:
        ids = processor.encode(row.messages, films=films_of(row))
        return Tokens.of(Encoded(ids, [False] * len(ids)))
    try:
        tokens = Tokens.of(processor.encode_for_training(row.messages, films=films_of(row)))
    except ValueError as error:
        raise ValueError(f"sample '{row.id}': {error}") from error
    return _cut(tokens, max_length, processor.image_token_id, row.id)


def _cut(tokens: Tokens, max_length: int | None, image_token_id: int, sample_id: str) -> Tokens:
    if max_length is None or len(tokens.ids) <= max_length:
        return tokens
    try:
        return cut(tokens, max_length, image_token_id)
    except ValueError as error:
        raise ValueError(f"sample '{sample_id}' has {len(tokens.ids)} tokens; {error}. Raise it") from error


def cut(tokens: Tokens, max_length: int, image_token_id: int) -> Tokens:
    """The first `max_length` tokens. Raises ValueError when that would go through a picture or leave nothing to train on."""
    if (tokens.ids[max_length:] == image_token_id).any():
        raise ValueError(f"max_length {max_length} would cut a picture")
    if not tokens.trains[:max_length].any():
        raise ValueError(f"max_length {max_length} leaves nothing to train on")
    return Tokens(tokens.ids[:max_length], tokens.trains[:max_length])


def pad_id(processor: LvlmProcessor) -> int:
    pad = processor.tokenizer.pad_token_id
    return processor.tokenizer.eos_token_id if pad is None else pad


def _padded(rows: Sequence[Tokens], pad_id: int, *, left: bool) -> dict[str, torch.Tensor]:
    length = max(len(row.ids) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE, dtype=torch.long)
    for i, row in enumerate(rows):
        span = slice(length - len(row.ids), length) if left else slice(0, len(row.ids))
        tokens = torch.from_numpy(row.ids)
        ids[i, span], mask[i, span] = tokens, 1
        labels[i, span] = tokens.where(torch.from_numpy(row.trains), IGNORE)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Pictures(NamedTuple):
    """The distinct pictures of a batch [m], and which of them each place of the prompts shows [n]."""

    distinct: list[PIL.Image.Image | None]
    shown: list[int]

    @classmethod
    def of(cls, shown: Iterable[Image]) -> Pictures:
        """shown: the pictures in the order of their placeholders. BadImage for one that cannot be decoded."""
        distinct: dict[Hashable, PIL.Image.Image | None] = {}
        index: list[int] = []
        for image in shown:
            key = same_picture(image)
            if key not in distinct:
                distinct[key] = decode(image).pixels
            index.append(list(distinct).index(key))
        return cls(list(distinct.values()), index)

    def tensors(self, processor: LvlmProcessor, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
        """`pixel_values` [m, 3, H, W], and `picture_index` [n] where some picture is shown twice; nothing without pictures."""
        if not self.distinct:
            return {}
        batch = {"pixel_values": torch.from_numpy(processor.image_processor.pixels(self.distinct)).to(dtype)}
        return batch | ({"picture_index": torch.tensor(self.shown)} if len(self.shown) > len(self.distinct) else {})


def same_picture(image: Image) -> Hashable:
    """What two records of one picture have in common: its bytes, its path, or the decoded picture itself."""
    if image.data is not None:
        return hashlib.sha256(image.data).digest()
    return image.path or id(image.pixels)
