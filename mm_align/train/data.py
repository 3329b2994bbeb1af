"""Training rows as a torch dataset: sources -> quarantine or store -> epochs of rows or packs -> batches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from data_tools.disk.durable import put_in_place, sync
from data_tools.io import BadImage, decode
from data_tools.io.refusals import rejected
from data_tools.records import Image, Sample

from ..models import LvlmProcessor, Prepared, collate, collate_packs
from ..models.batch import same_picture
from ..models.films import filmed, placeholders, videos_of
from .mixture import Items, Order
from .sources import Source
from .store import REJECTED, RowStore, Rules, TooLong, is_late, open_store, quarantine_line

__all__ = ["Collator", "NoPictureLeft", "Source", "TrainingSet", "training_set"]

Annotate = Callable[[Sequence[Sample]], Mapping[str, torch.Tensor]]
Item = Prepared | list[Prepared]  # a row, or the rows of a pack


def training_set(
    sources: Sequence[Source],
    processor: LvlmProcessor,
    *,
    quarantine: Path,
    max_length: int | None = None,
    packing: bool = False,
    length_grouping: bool = False,
    batch_size: int = 1,
    seed: int = 0,
    too_long: TooLong = "drop",
    shuffle: bool = True,
    cache: Path | None = None,
) -> TrainingSet:
    """Read and tokenise every source once, and give the rows that can be trained on as a dataset.

    Rows that cannot leave with a reason in the file `quarantine`. A row of more than `max_length` tokens (placeholders
    counted) leaves as "too_long", or with too_long="cut" loses text at its end; a cut that would go through a picture or
    leave nothing to train on makes it leave all the same. packing: items are packs of up to `max_length` tokens.
    length_grouping: batches of `batch_size` hold rows of like lengths. shuffle=False: rows in their order, as evaluation
    wants. The tokenised rows lie under `cache` (default: `training_rows` beside `quarantine`) and are used again while
    sources, processor and limits stay the same. Raises ValueError for settings that contradict each other and when no row
    is left, SourceError for a path that holds nothing readable.
    """
    if packing and max_length is None:
        raise ValueError("packing needs max_length, the number of tokens of a pack")
    if packing and length_grouping:
        raise ValueError("packing makes batches of like lengths already; choose packing or length_grouping")
    store = open_store(RowStore, cache or quarantine.parent / "training_rows", sources, processor, Rules(max_length, too_long, seed))
    show_rejected(store, quarantine)
    order = order_of(store, sources, seed, shuffle, batch_size if length_grouping else None, max_length if packing else None)
    return TrainingSet(store, sources, order, quarantine)


def order_of(
    store: RowStore, sources: Sequence[Source], seed: int, shuffle: bool, batch_size: int | None = None, capacity: int | None = None
) -> Order:
    """The epochs of a store by its sources' weights; see `Order`."""
    rows = [store.rows_of(number) for number in range(len(sources))]
    return Order(rows, [source.weight for source in sources], store.lengths, seed, shuffle, batch_size, capacity)


def show_rejected(store: RowStore, quarantine: Path) -> None:
    """Begin the quarantine with what the survey rejected; pictures that broke in an earlier start of the run stay.

    ValueError when no row is left.
    """
    quarantine.parent.mkdir(parents=True, exist_ok=True)
    found = (store.folder / REJECTED).read_bytes()
    there = quarantine.read_bytes() if quarantine.exists() else None
    if there is None or not there.startswith(found) or not all(map(is_late, there[len(found) :].splitlines())):
        temporary = quarantine.with_name(f".{quarantine.name}.{os.getpid()}.tmp")
        temporary.write_bytes(found)
        sync(temporary)
        put_in_place(temporary, quarantine)
    if not len(store):
        raise ValueError(_nothing_left(store, quarantine))


def _nothing_left(store: RowStore, quarantine: Path) -> str:
    sources = store.report["sources"]
    reasons = sum((Counter(source["reasons"]) for source in sources), Counter[str]())
    read = sum(source.get("rows", 0) for source in sources)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"none of the {read} rows can be trained on ({why or 'the sources are empty'}); {quarantine} says why of each"


class NoPictureLeft(RuntimeError):
    """Every row has left because of its picture, so an epoch would have no end."""


class TrainingSet(Dataset[Item]):
    """One epoch at a time: item i is row i of the epoch, or pack i (a list of rows), with its pictures decoded.

    The order is a function of (seed, epoch), so read it in sequence (`train_sampling_strategy="sequential"`): batches after a
    resume are those of an undisturbed run. A picture that turns out broken now is quarantined; the next row takes its row's
    place, or its pack goes without it.
    """

    def __init__(self, store: RowStore, sources: Sequence[Source], order: Order, quarantine: Path) -> None:
        self.store, self.sources, self.order, self.quarantine = store, list(sources), order, quarantine
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # workers that outlive an epoch see it change
        self._made = (0, order.items(0))
        self._length = len(self._made[1])
        self._broken: set[int] = set()  # rows whose pictures this process has quarantined

    @property
    def packed(self) -> bool:
        return self.order.capacity is not None

    @property
    def report(self) -> dict[str, Any]:
        """What the survey counted: {"sources": [{path, rows, kept, tokens, trained, pictures, cut, reasons}, ...]}."""
        return {"sources": self.store.report["sources"]}

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer's loader before each epoch."""
        self._epoch.fill_(epoch)
        self._items()  # here and not in each worker

    def samples(self) -> Iterator[Sample]:
        """Every row that trains, once, in the order of the sources; pictures not decoded."""
        return (self.store.sample(row) for row in range(len(self.store)))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Item:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Item]:
        """The items of a batch: a picture that several of its rows show is decoded once."""
        items = self._items()
        seen: dict[Hashable, Image | BadImage] = {}
        return [self._item(items, position, seen) for position in positions]

    def _items(self) -> Items:
        epoch = int(self._epoch)
        if self._made[0] != epoch:
            self._made = (epoch, self.order.items(epoch))
        return self._made[1]

    def _item(self, items: Items, position: int, seen: dict[Hashable, Image | BadImage]) -> Item:
        first = range(len(items))[position]  # IndexError behind the end
        for at in range(first, first + len(items)):
            rows = [row for number in items[at % len(items)].tolist() if (row := self._decoded(number, seen)) is not None]
            if rows:
                return rows if self.packed else rows[0]
        raise NoPictureLeft(f"no picture of these rows can be decoded any more; {self.quarantine} says why of each")

    def _decoded(self, row: int, seen: dict[Hashable, Image | BadImage]) -> Any:
        """The row with its pictures and the frames of its films; None where one of them cannot be decoded."""
        prepared = self.store[row]
        try:
            return replace(prepared, sample=self._shown(prepared, seen))
        except BadImage as error:
            self._quarantine(row, prepared.sample, error)
            return None

    def _shown(self, prepared: Any, seen: dict[Hashable, Image | BadImage]) -> Sample:
        sample: Sample = prepared.sample
        films = videos_of(sample)
        images = tuple(image if image in films else _decoded_once(image, seen) for image in sample.images)
        if not films:
            return replace(sample, images=images)
        shown = filmed(replace(sample, images=images), self.store.processor)
        wanted = int((prepared.encoded.ids == self.store.processor.image_token_id).sum())
        if placeholders(shown, self.store.processor) != wanted:
            raise BadImage("video_changed", f"{', '.join(str(f.path) for f in films)}: the film has changed since the rows were read")
        return shown

    def _quarantine(self, row: int, sample: Sample, error: BadImage) -> None:
        if row in self._broken:
            return
        self._broken.add(row)
        place, source = sample.source, self.sources[int(self.store.index["source"][row])]
        assert place is not None  # rows that were read have one
        line = quarantine_line(rejected(place.shard, place.row, place.format, error.reason, error.detail), source, late=True)
        if line not in self.quarantine.read_bytes():  # by another worker, or in an earlier epoch or start
            with self.quarantine.open("ab", buffering=0) as file:  # one write, so that lines of several workers stay whole
                file.write(line)

    def summary(self) -> str:
        """The sources as a table for people: rows, share of an epoch, tokens, and why rows left."""
        reports = self.store.report["sources"]
        seen = [source.weight * report.get("kept", 0) for source, report in zip(self.sources, reports, strict=True)]
        lines = [_line(report, rows, sum(seen)) for report, rows in zip(reports, seen, strict=True)]
        return "\n".join([*lines, self._shape()])

    def _shape(self) -> str:
        if not self.packed:
            return f"{len(self):,} rows an epoch"
        tokens = int(self.store.lengths[self._items().rows].sum())
        capacity = self.order.capacity or 1
        return f"{len(self):,} packs of {capacity} tokens an epoch, {tokens / (len(self) * capacity):.1%} full"


def _line(report: Mapping[str, Any], rows: float, total: float) -> str:
    left = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report["reasons"].items()))
    cut = f", {report['cut']:,} cut at their end" if report.get("cut") else ""
    kept = f"{report.get('kept', 0):,} of {report.get('rows', 0):,} rows, {report.get('tokens', 0):,} tokens"
    return f"{report['path']}: {kept}, {rows / total:.1%} of an epoch{cut}" + (f"; quarantined: {left}" if left else "")


def _decoded_once(image: Image, seen: dict[Hashable, Image | BadImage]) -> Image:
    """Raises BadImage, at every call for a picture that is broken."""
    key = same_picture(image)
    if key not in seen:
        try:
            seen[key] = decode(image)
        except BadImage as error:
            seen[key] = error
    found = seen[key]
    if isinstance(found, BadImage):
        raise found
    return found


class Collator:
    """Items of a `TrainingSet`, or samples -> the batch of `collate` (of `collate_packs` for packs), with what an objective adds.

    annotate: see `Objective.annotate`; it gets the samples of the batch in the order in which the prompts show them.
    """

    def __init__(self, processor: LvlmProcessor, annotate: Annotate | None = None) -> None:
        self.processor, self.annotate = processor, annotate

    def __call__(self, items: Sequence[Item | Sample]) -> dict[str, torch.Tensor]:
        packs = [item if isinstance(item, list) else [item] for item in items]
        rows = [row for pack in packs for row in pack]
        packed = any(isinstance(item, list) for item in items)
        batch = collate_packs(packs, self.processor) if packed else collate(rows, self.processor, for_training=True)
        extra = self.annotate([row.sample if isinstance(row, Prepared) else row for row in rows]) if self.annotate else {}
        taken = sorted(batch.keys() & extra.keys())
        if taken:
            raise ValueError(f"the objective's annotate returns {', '.join(taken)}, which the batch has already; use other names")
        return batch | dict(extra)
