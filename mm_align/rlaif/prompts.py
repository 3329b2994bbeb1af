"""Prompts: what is to be asked about which picture, from any data that can be read, as samples of one form."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.disk.durable import put_in_place, write_atomic
from data_tools.io import BadImage
from data_tools.io.fields import CONVERSATION_KEYS, content_id, is_record
from data_tools.io.images import encoded, open_image, suffix
from data_tools.io.jsonl import dump
from data_tools.records import Image, Message, Part, Rejected, Sample

from .stage import Gone, Places, StageSummary

DEFAULT_QUESTION = "Describe the image in detail."
QUESTION_KEYS = ("question", "raw_question", "prompt", "instruction")
PICTURES = "images"  # folder of the pictures that the data embeds


class RowQuestion:
    """Which question a row is asked: its own (of the field `key`, or of the usual ones; else its first user turn), else one of `questions`.

    Of several `questions` one is drawn for each row, by its id. `own` False passes over what the row itself asks.
    """

    def __init__(self, questions: Sequence[str] = (DEFAULT_QUESTION,), *, key: str | None = None, own: bool = True) -> None:
        self.questions, self.own = tuple(questions), own
        self.keys = QUESTION_KEYS if key is None else (key,)

    def __call__(self, row: Sample) -> str:
        return (self._own(row) if self.own else "") or self._drawn(row.id)

    def _own(self, row: Sample) -> str:
        asked = next((text for key in self.keys if (text := _text(row.meta.get(key)))), "")
        return asked or "\n".join(part.text for part in _first_turn(row) if part.kind == "text").strip()

    def _drawn(self, row_id: str) -> str:
        digest = hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).digest()
        return self.questions[int.from_bytes(digest[:8], "big") % len(self.questions)]


def _text(value: Any) -> str:
    return " ".join(value.replace("<image>", " ").split()) if isinstance(value, str) else ""


def _first_turn(row: Sample) -> tuple[Part, ...]:
    return next((message.parts for message in row.messages if message.role == "user"), ())


def collect(rows: Iterable[Sample | Rejected], question_of: RowQuestion, folder: Path, places: Places) -> StageSummary:
    """Write samples.jsonl, a prompt a line: the user's turn with its pictures first, no answer. Pictures are not decoded.

    Paths are told from `folder`, and pictures that the data embeds are put there. Rows that cannot be asked leave with their reason.
    """
    keys = question_of.keys if question_of.own else ()
    return collect_as(lambda row, images: _prompt(row, question_of(row), images, keys), rows, folder, places)


def collect_as(
    made: Callable[[Sample, tuple[Image, ...]], Sample], rows: Iterable[Sample | Rejected], folder: Path, places: Places
) -> StageSummary:
    """As `collect`, of samples as `made` makes them from a row and its pictures, whose paths are told from `folder`."""
    left = _Leaving()
    output = places.scratch("output")
    n = 0
    with output.open("wb") as out:
        for sample in _distinct(_placed_rows(made, rows, folder, left), left):
            out.write(dump(sample.to_dict()))
            n += 1
        out.flush()
        os.fsync(out.fileno())
    put_in_place(output, places.output)
    write_atomic(places.quarantine, b"".join(map(dump, left.lines)))
    return StageSummary(n + len(left.lines), n, len(left.lines), n, dict(sorted(left.reasons.items())), fresh=n)


class _Leaving:
    """The rows that leave, with their reason."""

    def __init__(self) -> None:
        self.lines: list[Mapping[str, Any]] = []
        self.reasons: Counter[str] = Counter()

    def __call__(self, reason: str, line: Mapping[str, Any]) -> None:
        self.reasons[reason] += 1
        self.lines.append(line)


def _placed_rows(
    made: Callable[[Sample, tuple[Image, ...]], Sample], rows: Iterable[Sample | Rejected], folder: Path, left: _Leaving
) -> Iterator[Sample]:
    for row in rows:
        if isinstance(row, Rejected):
            left(row.reason, row.to_dict())
            continue
        try:
            if not row.images:
                raise BadImage("image_missing", "the row names no picture")
            yield made(row, tuple(_placed(image, folder) for image in row.images))
        except BadImage as error:
            place = None if row.source is None else row.source.to_dict()
            left(error.reason, {**Gone(row.id, error.reason, error.detail).line(), "source": place})


def _prompt(row: Sample, question: str, images: tuple[Image, ...], keys: Sequence[str]) -> Sample:
    given = row.source is not None and row.source.id_key is not None
    name = row.id if given or is_record(row.meta) else content_id(row.images, question)
    turn = Message("user", (*(Part("image") for _ in images), Part("text", question)))
    return Sample(name, (turn,), images, None, None, _unread(row, keys))


def _unread(row: Sample, keys: Sequence[str]) -> dict[str, Any]:
    """The fields that were not understood as question (`keys`), picture or conversation."""
    if is_record(row.meta):
        return dict(row.meta["meta"])
    known = {*keys, *CONVERSATION_KEYS, "__members__", *(row.source.image_keys if row.source else ())}
    return {key: value for key, value in row.meta.items() if key not in known}


def _placed(image: Image, folder: Path) -> Image:
    """The picture by its path from `folder`. Raises BadImage where there is none."""
    if image.data is not None:
        return Image(path=_stored(encoded(image), folder))
    open_image(image).close()
    path = image.path or ""
    return Image(path=path if "://" in path else Path(os.path.relpath(path, folder)).as_posix())


def _stored(data: bytes, folder: Path) -> str:
    name = f"{PICTURES}/{hashlib.sha256(data).hexdigest()[:16]}.{suffix(data)}"
    if not (folder / name).exists():
        (folder / PICTURES).mkdir(exist_ok=True)
        write_atomic(folder / name, data)
    return name


def _distinct(samples: Iterable[Sample], left: _Leaving) -> Iterator[Sample]:
    """The same id with another question or picture gets a number behind it; the same prompt again leaves: its answers would be the same."""
    seen: dict[str, set[bytes]] = {}
    for sample in samples:
        content = hashlib.sha256(repr((sample.messages, sample.images, sample.caption)).encode("utf-8", "replace")).digest()
        earlier = seen.setdefault(sample.id, set())
        if content in earlier:
            detail = "an earlier row has this id, picture and question (or caption); its answers would be the same"
            left("duplicate_prompt", Gone(sample.id, "duplicate_prompt", detail).line())
            continue
        yield replace(sample, id=f"{sample.id}#{len(earlier) + 1}") if earlier else sample
        earlier.add(content)
