"""Where records become tensors: samples -> one batch that the model takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from data_tools.io.images import decode
from data_tools.records import Sample

from ..losses.base import IGNORE
from .processor import Encoded, LvlmProcessor


def collate(
    samples: Sequence[Sample],
    processor: LvlmProcessor,
    *,
    for_training: bool,
    max_length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Samples -> input_ids and attention_mask [B, L], pixel_values [n, 3, H, W] (absent without pictures), labels [B, L].

    for_training: right padding, and labels that are -100 but where a message trains. Otherwise left padding, no labels,
    and prompts that end where the assistant is to speak. max_length cuts training rows at the end, never inside a
    picture. dtype is that of the pixels. Raises ValueError when a sample's image parts and images differ in number, or
    nothing of it trains; BadImage for a picture that cannot be decoded.
    """
    for sample in samples:
        _check_images(sample)
    rows = [_encoded(sample, processor, for_training, max_length) for sample in samples]
    batch = _padded(rows, _pad_id(processor), left=not for_training)
    if not for_training:
        del batch["labels"]
    pictures = [decode(image).pixels for sample in samples for image in sample.images]
    if pictures:
        batch["pixel_values"] = torch.from_numpy(processor.image_processor.pixels(pictures)).to(dtype)
    return {key: value.to(device) for key, value in batch.items()}


def _check_images(sample: Sample) -> None:
    parts = sum(part.kind == "image" for message in sample.messages for part in message.parts)
    if parts != len(sample.images):
        raise ValueError(f"sample '{sample.id}' has {parts} image parts in its messages and {len(sample.images)} images")


def _encoded(sample: Sample, processor: LvlmProcessor, for_training: bool, max_length: int | None) -> Encoded:
    if not for_training:
        ids = processor.encode(sample.messages)
        return Encoded(ids, [False] * len(ids))
    try:
        encoded = processor.encode_for_training(sample.messages)
    except ValueError as error:
        raise ValueError(f"sample '{sample.id}': {error}") from error
    return _cut(encoded, max_length, processor.image_token_id, sample.id)


def _cut(encoded: Encoded, max_length: int | None, image_token_id: int, sample_id: str) -> Encoded:
    if max_length is None or len(encoded.ids) <= max_length:
        return encoded
    if image_token_id in encoded.ids[max_length:]:
        raise ValueError(f"sample '{sample_id}' has {len(encoded.ids)} tokens; max_length {max_length} would cut a picture. Raise it")
    if not any(encoded.trains[:max_length]):
        raise ValueError(f"sample '{sample_id}': max_length {max_length} leaves nothing to train on. Raise it")
    return Encoded(encoded.ids[:max_length], encoded.trains[:max_length])


def _pad_id(processor: LvlmProcessor) -> int:
    pad = processor.tokenizer.pad_token_id
    return processor.tokenizer.eos_token_id if pad is None else pad


def _padded(rows: Sequence[Encoded], pad_id: int, *, left: bool) -> dict[str, torch.Tensor]:
    length = max(len(row.ids) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE, dtype=torch.long)
    for i, row in enumerate(rows):
        span = slice(length - len(row.ids), length) if left else slice(0, len(row.ids))
        tokens = torch.tensor(row.ids)
        ids[i, span], mask[i, span] = tokens, 1
        labels[i, span] = tokens.where(torch.tensor(row.trains), IGNORE)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
