"""Training rows on disk, tokenised once: written in one pass over the sources, read by row number without copies in memory."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeVar

import numpy as np
from jinja2 import TemplateError

from data_tools.disk.durable import put_in_place, read_json, remove, sync, to_json
from data_tools.disk.lock import take_lock
from data_tools.io import BadImage
from data_tools.io.images import STORES, open_image
from data_tools.io.jsonl import plain
from data_tools.io.paths import is_remote
from data_tools.io.refusals import RowError, excerpt, rejected
from data_tools.records import Rejected, Sample
from data_tools.run.directory import fingerprint

from ..models import LvlmProcessor, Prepared
from ..models.batch import Tokens, cut
from ..models.films import Film, films_before, videos_of
from .sources import Source, rows, shards_of

LAYOUT = 2  # of the files; another number means that older stores are made anew
DATA, INDEX, REPORT, REJECTED = "rows.bin", "index.npz", "report.json", "rejected.jsonl"
INDEX_TYPES = {"start": np.int64, "head": np.int64, "tokens": np.int64, "length": np.int64, "source": np.int16, "pictures": np.int32}

TooLong = Literal["drop", "cut"]


class Rules(NamedTuple):
    """What a row must satisfy: `max_length` tokens (None: any number); longer ones leave ("drop") or lose text at their end ("cut")."""

    max_length: int | None
    too_long: TooLong
    seed: int


class RowStore:
    """Rows by number. Memory holds 38 bytes a row; the rest is read from `folder` through the page cache, which processes share.

    On disk a row takes its text, 4 bytes a token, and its pictures where the source embeds them (paths stay paths).
    """

    records = "samples"

    @staticmethod
    def writer(*args: Any) -> StoreWriter:
        """What writes such a store."""
        return StoreWriter(*args)

    def __init__(self, folder: Path, processor: LvlmProcessor) -> None:
        self.folder = folder
        self.processor = processor
        with np.load(folder / INDEX, allow_pickle=False) as index:
            self.index = {name: index[name] for name in INDEX_TYPES}
        self.report: dict[str, Any] = read_json(folder / REPORT) or {}
        self._data: np.memmap | None = None

    def __len__(self) -> int:
        return len(self.index["length"])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_data": None}  # a worker maps the file itself

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, image placeholders counted."""
        return self.index["length"]

    def rows_of(self, source: int) -> np.ndarray:
        return np.flatnonzero(self.index["source"] == source)

    def sample(self, row: int) -> Sample:
        """The sample of a row, its pictures not decoded; `meta` holds the fields that were not understood as words or pictures."""
        return self._head(self._bytes(row), row)[0]

    def __getitem__(self, row: int) -> Any:
        """What the row is prepared as, its pictures not decoded."""
        data = self._bytes(row)
        sample, head = self._head(data, row)
        return Prepared(sample, self._tokens(data, row, head.get("repeats")))

    def _tokens(self, data: memoryview, row: int, counts: list[int] | None = None) -> Tokens:
        """counts: placeholders of each picture and frame, where they differ."""
        tokens = int(self.index["tokens"][row])
        ends = len(data) - (tokens + 7) // 8
        ids = np.frombuffer(data[ends - 4 * tokens : ends], np.int32)
        trains = np.unpackbits(np.frombuffer(data[ends:], np.uint8), count=tokens).astype(bool)
        repeats = np.ones(len(ids), np.int64)
        repeats[ids == self.processor.image_token_id] = self.processor.num_image_tokens if counts is None else counts
        return Tokens(np.repeat(ids, repeats).astype(np.int64), np.repeat(trains, repeats))

    def _bytes(self, row: int) -> memoryview:
        if self._data is None:
            self._data = np.memmap(self.folder / DATA, np.uint8, "r")
        return self._data.data[self.index["start"][row] : self.index["start"][row + 1]]

    def _head(self, data: memoryview, row: int) -> tuple[Sample, dict[str, Any]]:
        """The sample, and everything that was written with it."""
        at = int(self.index["head"][row])
        head = json.loads(bytes(data[:at]))
        sample, images = Sample.from_dict(head["sample"]), []
        for image, size in zip(sample.images, head["bytes"], strict=True):
            images.append(image if size is None else replace(image, data=bytes(data[at : at + size])))
            at += size or 0
        return replace(sample, images=tuple(images)), head


Store = TypeVar("Store", bound=RowStore)


def open_store(kind: type[Store], folder: Path, sources: Sequence[Source], processor: LvlmProcessor, rules: Rules) -> Store:
    """The store of these sources under `folder`, made if it is not there yet; one process makes it, others wait.

    It is made anew when a source, the processor or the rules changed, or a picture that was missing has appeared.
    """
    key = _key(kind.records, sources, processor, rules)
    made = folder / key
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if not made.is_dir() or _appeared(made):
            _write(kind, made, sources, processor, rules)
    return kind(made, processor)


def _key(records: str, sources: Sequence[Source], processor: LvlmProcessor, rules: Rules) -> str:
    described = {
        "layout": LAYOUT,
        "records": records,
        "sources": [source.model_dump(exclude={"weight"}) for source in sources],
        "shards": [[fingerprint(shard.path) for shard in shards_of(source)] for source in sources],
        "rules": rules._asdict(),
        "processor": processor.fingerprint(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        take_lock(file, wait=True)
        yield


def _appeared(made: Path) -> bool:
    """Whether a picture or film exists now whose absence rejected a row."""
    missing = (read_json(made / REPORT) or {}).get("missing", [])
    return any(os.path.exists(path) for path in missing)  # noqa: PTH110 - once a picture


def _write(kind: type[RowStore], made: Path, sources: Sequence[Source], processor: LvlmProcessor, rules: Rules) -> None:
    temporary = made.with_name(f".{made.name}.tmp")
    remove(temporary)
    temporary.mkdir()
    with (temporary / DATA).open("wb") as data, (temporary / REJECTED).open("wb") as gone:
        writer = kind.writer(data, gone, processor, rules)
        for number, source in enumerate(sources):
            writer.add_source(number, source)
    np.savez(temporary / INDEX, allow_pickle=False, **writer.arrays())
    (temporary / REPORT).write_bytes(to_json({"sources": writer.reports, "missing": writer.missing}))
    for name in (DATA, INDEX, REPORT, REJECTED):
        sync(temporary / name)
    put_in_place(temporary, made)


class StoreWriter:
    """One pass over the sources: rows that train to `data`, the others with their reasons to `gone`."""

    def __init__(self, data: IO[bytes], gone: IO[bytes], processor: LvlmProcessor, rules: Rules) -> None:
        self.data, self.gone, self.processor, self.rules = data, gone, processor, rules
        self.columns = {name: array("q") for name in INDEX_TYPES}
        self.columns["start"].append(0)
        self.reports: list[dict[str, Any]] = []
        self.missing: list[str] = []

    def add_source(self, number: int, source: Source) -> None:
        reasons: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for item in self.read(source):
            counts["rows"] += 1
            try:
                if isinstance(item, Rejected):
                    raise RowError(item.reason, item.detail)
                self.add(item, number, counts)
            except RowError as error:
                out = item if isinstance(item, Rejected) else self.rejected(item, error)
                reasons[out.reason] += 1
                self.gone.write(quarantine_line(out, source))
        self.reports.append({"path": source.path, **counts, "reasons": dict(reasons)})

    def read(self, source: Source) -> Iterator[Any]:
        """The records of a source, broken ones as Rejected."""
        return rows(source, self.rules.seed)

    def rejected(self, item: Any, error: RowError) -> Rejected:
        return reject(item, error)

    def add(self, item: Any, number: int, counts: Counter[str]) -> None:
        """Write a record of source `number` as a row. Raises RowError where it cannot be trained on."""
        _check(item)
        self.check_files(item)
        films = self._films(item)
        tokens, cut = self._fitting(item, films)
        counts.update(kept=1, tokens=len(tokens.ids), trained=int(tokens.trains.sum()), cut=int(cut))
        counts.update(pictures=len(item.images) - len(films), films=len(films))
        repeats = _repeats(item, films, self.processor) if films else None
        self.put(item, tokens, number, len(tokens.ids), repeats)

    def _films(self, sample: Sample) -> tuple[Film, ...]:
        """Read from each film's packets, which tell its length and times."""
        try:
            return films_before(sample, self.processor)
        except BadImage as error:
            self.missing += [str(film.path) for film in videos_of(sample) if error.reason == "video_missing" and film.path]
            raise RowError(error.reason, error.detail) from error

    def check_files(self, sample: Sample) -> None:
        films = videos_of(sample)
        for image in (image for image in sample.images if image not in films):
            if image.data is None and not _in_a_store(image.path or ""):
                try:
                    open_image(image).close()
                except BadImage as error:
                    self.missing += [image.path] if image.path and error.reason == "image_missing" else []
                    raise RowError(error.reason, error.detail) from error

    def _fitting(self, sample: Sample, films: Sequence[Film]) -> tuple[Tokens, bool]:
        tokens, limit = _tokens(sample, films, self.processor), self.rules.max_length
        if limit is None or len(tokens.ids) <= limit:
            return tokens, False
        if self.rules.too_long == "drop":
            raise RowError("too_long", f"{len(tokens.ids)} tokens, and max_length is {limit}")
        try:
            return cut(tokens, limit, self.processor.image_token_id), True
        except ValueError as error:
            raise RowError("too_long", f"{len(tokens.ids)} tokens; {error}") from error

    def put(self, sample: Sample, tokens: Tokens, number: int, length: int, repeats: list[int] | None = None, **more: Any) -> None:
        """Write the row. length: what it counts for where rows are arranged by length; repeats: placeholders of each picture and frame,
        where they differ; more: what the store is to find in its head."""
        kept = _once_a_picture(tokens, self.processor, repeats)
        embedded = [image.data for image in sample.images if image.data is not None]
        more |= {} if repeats is None else {"repeats": repeats}
        head = json.dumps(_head(sample) | more, default=plain).encode("ascii")
        parts = [head, *embedded, kept.ids.astype(np.int32).tobytes(), np.packbits(kept.trains).tobytes()]
        self.data.writelines(parts)
        sizes = {"start": self.columns["start"][-1] + sum(map(len, parts)), "head": len(head), "tokens": len(kept.ids)}
        facts = {"length": length, "source": number, "pictures": len(sample.images)}
        for name, value in (sizes | facts).items():
            self.columns[name].append(value)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.array(self.columns[name], kind) for name, kind in INDEX_TYPES.items()}


def _in_a_store(path: str) -> bool:
    """Whether a picture lies far away: it is looked for when it is needed, not now."""
    return is_remote(path) and path.split("://")[0].lower() in STORES


def _check(sample: Sample) -> None:
    answers = [m for m in sample.messages if m.trains and any(p.kind == "text" and p.text.strip() for p in m.parts)]
    if not answers:
        raise RowError("no_answer", "no turn of the assistant has text to train on")
    places = sum(part.kind != "text" for message in sample.messages for part in message.parts)
    if places != len(sample.images):
        raise RowError("image_count", f"the conversation places {places} pictures and films, the row has {len(sample.images)}")


def _tokens(sample: Sample, films: Sequence[Film], processor: LvlmProcessor) -> Tokens:
    try:
        return Tokens.of(processor.encode_for_training(sample.messages, films=films))
    except TemplateError as error:
        raise RowError("chat_template", f"the chat template refuses the conversation: {error}") from error
    except ValueError as error:
        raise RowError("not_encodable", str(error)) from error


def _once_a_picture(tokens: Tokens, processor: LvlmProcessor, repeats: Sequence[int] | None) -> Tokens:
    """One placeholder for each picture or frame; `RowStore` multiplies them again."""
    places = np.flatnonzero(tokens.ids == processor.image_token_id)
    firsts = np.arange(0, len(places), processor.num_image_tokens) if repeats is None else np.cumsum([0, *repeats[:-1]])
    extra = np.delete(places, firsts)
    return Tokens(np.delete(tokens.ids, extra), np.delete(tokens.trains, extra))


def _repeats(sample: Sample, films: Sequence[Film], processor: LvlmProcessor) -> list[int]:
    """Placeholders of each picture and each frame in the prompt's order, but of those that have none."""
    given = iter(films)
    counts: list[int] = []
    for part in (part for message in sample.messages for part in message.parts):
        if part.kind == "image":
            counts.append(processor.num_image_tokens)
        elif part.kind == "video":
            counts += next(given).tokens
    return [count for count in counts if count]


def _head(sample: Sample) -> dict[str, Any]:
    """The sample without the bytes of its pictures, and their sizes."""
    sizes = [None if image.data is None else len(image.data) for image in sample.images]
    bare = tuple(replace(image, data=None, pixels=None) for image in sample.images)
    return {"sample": replace(sample, images=bare).to_dict(), "bytes": sizes}


def reject(sample: Sample, error: RowError, **more: Any) -> Rejected:
    """The sample's row as one that leaves, with its words and `more` for people."""
    assert sample.source is not None  # rows that were read have one
    place = sample.source
    words: dict[str, Any] = {m.role: "".join(p.text if p.kind == "text" else f"<{p.kind}>" for p in m.parts) for m in sample.messages}
    raw = excerpt({"id": sample.id, "images": [image.path or "embedded" for image in sample.images], **words, **more})
    return rejected(place.shard, place.row, place.format, error.reason, error.detail, raw)


def quarantine_line(out: Rejected, source: Source, *, late: bool = False) -> bytes:
    """One line of `quarantine.jsonl`: where the row was read, why it left, what could be read of it, and whether training had begun."""
    return json.dumps({"path": source.path, "late": late} | out.to_dict(), ensure_ascii=True).encode("ascii") + b"\n"


def is_late(line: bytes) -> bool:
    return b'"late": true' in line  # quotes within text are escaped
