"""Where training rows come from: a source's settings, and its rows as conversations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from pydantic import Field

from data_tools.io import Shard, list_shards, read
from data_tools.io.fields import CONVERSATION_KEYS, is_record
from data_tools.io.refusals import RowError, excerpt, rejected
from data_tools.preference import FORMATS
from data_tools.records import Message, Part, Rejected, Sample

from ..config import JobConfig

Item: TypeAlias = Sample | Rejected


class Source(JobConfig):
    """One part of the training mixture."""

    path: str = Field(description="file, folder of shards, pattern, saved dataset, or datasets:NAME")
    weight: float = Field(1.0, gt=0, description="how often a row is seen in one epoch: 2 twice, 0.5 every other epoch")
    limit: int | None = Field(None, ge=1, description="only the first rows of the source")
    format: str | None = Field(
        None, description="jsonl, parquet, webdataset, folder or hf, where a folder holds several; of pairs: trl, rlaifv ..."
    )
    caption_key: str | None = Field(None, description="field of the caption or conversation; default: a conversation, else a caption")
    image_key: str | None = Field(None, description="field of the pictures")
    image_root: str | None = Field(
        None, description="folder that relative paths of pictures and films start from; default: beside the file"
    )
    prompt: str | list[str] = Field(
        "", description="what is asked for a caption, after its picture; of several one is drawn for each row; '' asks nothing"
    )


def shards_of(source: Source) -> list[Shard]:
    """What the source consists of. Raises SourceError when its path holds nothing readable."""
    return list_shards(source.path, None if source.format in FORMATS else source.format)  # formats of pairs are columns, not files


def rows(source: Source, seed: int) -> Iterator[Item]:
    """Every row of a source in its order, as a `Sample` with messages, or as a `Rejected`. Pictures are not decoded.

    Raises SourceError when the path holds nothing readable, OSError when it cannot be opened.
    """
    left = source.limit
    for shard in list_shards(source.path, source.format):
        for item in _read(shard, source, left):
            left = None if left is None else left - 1
            yield item if isinstance(item, Rejected) else talk(item, source, seed)
        if left == 0:
            return


def _read(shard: Shard, source: Source, limit: int | None) -> Iterator[Item]:
    return read(
        shard,
        caption_key=source.caption_key,
        image_key=source.image_key,
        image_root=source.image_root,
        limit=limit,
        conversations_first=source.caption_key is None,
        videos=True,
    )


def talk(sample: Sample, source: Source, seed: int) -> Item:
    """The sample as a conversation: its own, or its caption as the answer to `source.prompt`."""
    try:
        messages = sample.messages or _captioned(sample, source, seed)
    except RowError as error:
        assert sample.source is not None  # rows that were read have one
        place = sample.source
        return rejected(place.shard, place.row, place.format, error.reason, error.detail, excerpt(sample.meta))
    return replace(sample, messages=messages, meta=_unread(sample))


def _captioned(sample: Sample, source: Source, seed: int) -> tuple[Message, ...]:
    key = sample.source.caption_key if sample.source else None
    if key in CONVERSATION_KEYS:
        raise RowError("conversation_type", f"field {key!r} should hold a list of turns, found {str(sample.meta[key])[:80]!r}")
    if not sample.caption:
        raise RowError("no_answer", "the row has neither a conversation nor a caption to train on")
    prompt = _prompt(source.prompt, sample.id, seed)
    asked = tuple(Part("image") for _ in sample.images) + ((Part("text", prompt),) if prompt else ())
    return Message("user", asked), Message("assistant", (Part("text", sample.caption),), trains=True)


def _prompt(prompt: str | list[str], sample_id: str, seed: int) -> str:
    if isinstance(prompt, str):
        return prompt
    if not prompt:
        return ""
    digest = hashlib.sha256(f"{seed}:{sample_id}".encode("utf-8", "surrogatepass")).digest()
    return prompt[int.from_bytes(digest[:8], "big") % len(prompt)]


def _unread(sample: Sample) -> Mapping[str, Any]:
    """The fields of a row that were not understood as its words or pictures: labels, scores and the like."""
    if is_record(sample.meta):
        return sample.meta["meta"]
    place = sample.source
    known = {*CONVERSATION_KEYS, *((place.caption_key, *place.image_keys) if place else ()), "__members__"}
    return {key: value for key, value in sample.meta.items() if key not in known}
