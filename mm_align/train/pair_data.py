"""Preference pairs as a torch dataset: files of pairs -> quarantine or store -> epochs of pairs -> batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data_tools.io import BadImage
from data_tools.io.refusals import RowError
from data_tools.preference import read_pairs
from data_tools.records import Image, PreferencePair, Rejected, Sample

from ..losses.preference import difference_weights
from ..models import LvlmProcessor
from ..models.batch import Tokens
from ..models.corruptions import Corruption
from ..models.pairs import Layout, PreparedPair, answered, collate_pairs, prepare_pair
from .data import TrainingSet, order_of, show_rejected
from .reference import References
from .sources import Source
from .store import RowStore, Rules, StoreWriter, open_store, reject

ReferenceField = Literal["reference", "contrast_reference"]  # fields of a PreparedPair
OF_SAMPLES = ("caption_key", "image_key", "prompt")  # settings of a source that mean nothing for pairs


def pair_set(
    sources: Sequence[Source],
    processor: LvlmProcessor,
    *,
    quarantine: Path,
    max_length: int | None = None,
    length_grouping: bool = False,
    batch_size: int = 1,
    seed: int = 0,
    shuffle: bool = True,
    cache: Path | None = None,
) -> PairSet:
    """As `training_set`, of files of preference pairs (`data_tools.preference`). A pair of which an answer would be cut leaves as
    "too_long". Raises ValueError for settings of a source that pairs do not have and when no pair is left."""
    for source in sources:
        if taken := [name for name in OF_SAMPLES if name in source.model_fields_set]:
            raise ValueError(f"{source.path} is read as preference pairs, which have no {', '.join(taken)}: leave it away")
    rules = Rules(max_length, "drop", seed)
    store = open_store(PairStore, cache or quarantine.parent / "training_rows", sources, processor, rules)
    show_rejected(store, quarantine)
    return PairSet(store, sources, order_of(store, sources, seed, shuffle, batch_size if length_grouping else None), quarantine)


class PairSet(TrainingSet):
    """Item i is pair i of the epoch, a PreparedPair with its pictures decoded and the scores of `references`; see `TrainingSet`."""

    references: Mapping[ReferenceField, References] = {}

    def _decoded(self, row: int, seen: dict[Hashable, Image | BadImage]) -> PreparedPair | None:
        pair = self._unscored(row, seen)
        if pair is None or not self.references:
            return pair
        found: dict[str, Any] = {name: references.of(row) for name, references in self.references.items()}
        if None in found.values():  # its picture was broken when the others were scored
            self._quarantine(row, pair.sample, BadImage("not_scored", "its picture could not be read when the reference scored the pairs"))
            return None
        return replace(pair, **found)

    def pairs(self, rows: Sequence[int]) -> list[PreparedPair | None]:
        """The pairs of these rows of the store, whatever the epoch; None for one with a broken picture, which joins the quarantine."""
        seen: dict[Hashable, Image | BadImage] = {}
        return [self._unscored(row, seen) for row in rows]

    def _unscored(self, row: int, seen: dict[Hashable, Image | BadImage]) -> PreparedPair | None:
        pair: PreparedPair | None = super()._decoded(row, seen)
        return pair


class PairStore(RowStore):
    """Pairs by number: a row holds the prompt's sample and the tokens of both conversations, one behind the other."""

    records = "pairs"

    @staticmethod
    def writer(*args: Any) -> StoreWriter:
        return _PairWriter(*args)

    def sample(self, row: int) -> Sample:
        """The prompt with the chosen answer as its last turn; pictures not decoded."""
        sample, head = self._head(self._bytes(row), row)
        return replace(sample, messages=answered(sample, head["chosen"]))

    def __getitem__(self, row: int) -> PreparedPair:
        data = self._bytes(row)
        sample, head = self._head(data, row)
        both, end = self._tokens(data, row), head["chosen_tokens"]
        chosen, rejected = Tokens(both.ids[:end], both.trains[:end]), Tokens(both.ids[end:], both.trains[end:])
        return PreparedPair(sample, chosen, rejected, head["margin"])


class _PairWriter(StoreWriter):
    def read(self, source: Source) -> Iterator[PreferencePair | Rejected]:
        return read_pairs(source.path, format=source.format, image_root=source.image_root, limit=source.limit)

    def rejected(self, item: PreferencePair, error: RowError) -> Rejected:
        return reject(item.sample, error, chosen=item.chosen, rejected=item.rejected)

    def add(self, item: PreferencePair, number: int, counts: Counter[str]) -> None:
        if any(part.kind == "video" or "<video>" in part.text for message in item.sample.messages for part in message.parts):
            raise RowError("video", "preference pairs are about pictures; films are trained on with `objective: {type: lm}`")
        self.check_files(item.sample)
        pair = prepare_pair(item, self.processor, self.rules.max_length)
        both = Tokens(*map(np.concatenate, zip(pair.chosen, pair.rejected, strict=True)))
        length = len(both.ids) - int(pair.chosen.trains.argmax())  # the prompt stands in a row once
        counts.update(kept=1, tokens=length, trained=int(both.trains.sum()), pictures=len(item.sample.images))
        known: dict[str, Any] = {"chosen": item.chosen, "chosen_tokens": len(pair.chosen.ids), "margin": pair.margin}
        self.put(item.sample, both, number, length, **known)


class PairCollator:
    """Pairs -> the batch of `collate_pairs`; with a token weight also `answer_weights` (see `token_diff_weights`)."""

    def __init__(
        self,
        processor: LvlmProcessor,
        *,
        layout: Layout = "shared",
        corruption: Corruption | None = None,
        token_weight: float | None = None,
    ) -> None:
        self.processor, self.layout, self.corruption, self.token_weight = processor, layout, corruption, token_weight

    def __call__(self, pairs: Sequence[PreparedPair]) -> dict[str, torch.Tensor]:
        batch = collate_pairs(pairs, self.processor, layout=self.layout, corruption=self.corruption)
        if self.token_weight is not None:
            batch["answer_weights"] = difference_weights(batch["answer_ids"], batch["answer_mask"], self.token_weight)
        return batch
