"""What all formats of preference pairs share: prompt, answers and pictures of a row, and their place in a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..io import images as pictures
from ..io.conversations import PLACEHOLDER, answer_text, conversation
from ..io.fields import content_id, given_id
from ..io.manifest import image_root_of
from ..io.paths import is_remote, local
from ..io.picture_values import images_in, inline_pictures, is_nothing
from ..io.refusals import RowError, text_in
from ..io.shard import Shard
from ..records import Image, Message, Part, PreferencePair, Sample, Source

MARGIN, REFERENCE = "margin", "reference"  # the columns that every format has room for
ABSOLUTE = ("trl", "ms_swift")  # formats whose toolkits look for relative paths elsewhere than beside the file


class Place(NamedTuple):
    """Where a row was read, in which format, and the folder that its picture paths start from."""

    shard: str
    row: int
    format: str
    image_root: str


# Reading


def pair_from(
    row: Mapping[str, Any],
    place: Place,
    turns: Any,
    answers: tuple[str, str],
    *,
    known: Sequence[str],
    image_keys: Sequence[str] = ("images", "image"),
    id_key: str | None = None,
) -> PreferencePair:
    """A pair of prompt `turns` and the chosen and rejected answer; pictures from the first of `image_keys` that has some, or from the
    turns. `known`: the fields that are understood; all others stay in `sample.meta`. `id_key`: the format's own field for the id.

    Raises RowError.
    """
    key = next((k for k in image_keys if not is_nothing(row.get(k))), None)
    images = images_in(row[key] if key else inline_pictures(_turns(turns)), key or "content", place.image_root)
    messages = prompt(turns, len(images))
    id_key, name = (id_key, str(row[id_key])) if id_key and row.get(id_key) is not None else given_id(row)
    reference = reference_in(row)
    gone = {*known, MARGIN, key, id_key, *([REFERENCE] if reference else []), *(k for k in image_keys if is_nothing(row.get(k)))}
    meta = {k: v for k, v in row.items() if k not in gone}
    source = Source(place.shard, place.row, place.format, None, (key,) if key else (), id_key)
    sample = Sample(name or content_id(images, _asked(messages)), messages, images, None, source, meta)
    return PreferencePair(sample, *answers, margin_in(row), reference)


def _asked(messages: Sequence[Message]) -> str:
    return "\n".join(part.text for message in messages for part in message.parts)


def _turns(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise RowError("prompt_type", f"the prompt should be text or a list of turns, found {str(value)[:80]!r}")
    return value


def prompt(turns: Any, images: int) -> tuple[Message, ...]:
    """The turns before the answers; the last must be the user's. Nothing in a prompt trains. Raises RowError."""
    messages = tuple(replace(message, trains=False) for message in conversation(_turns(turns), images))
    return ending_with_user(messages)


def ending_with_user(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages where one can answer them. Raises RowError."""
    last = messages[-1].role if messages else "nobody"
    if last != "user":
        raise RowError("prompt_turns", f"the prompt should end with a user's turn, but the last is {last}'s")
    return messages


def answer(value: Any, side: str) -> str:
    """An answer as text: itself, a turn, or a list of one assistant's turn. Raises RowError."""
    if isinstance(value, list):
        if len(value) != 1:
            raise RowError("answer_turns", f"the {side} answer should be one turn, found {len(value)}")
        value = value[0]
    if isinstance(value, Mapping):
        if value.get("from", value.get("role")) not in ("assistant", "gpt"):
            raise RowError("answer_turns", f"the {side} answer should be the assistant's turn, found {str(value)[:80]}")
        return answer_text(value)
    return text_in(value, f"the {side} answer")


def margin_in(row: Mapping[str, Any]) -> float:
    """The field `margin`, 0 where there is none. Raises RowError."""
    value = row.get(MARGIN)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError("bad_margin", f"field 'margin' should be a number, found {str(value)[:80]!r}")
    return float(value)


def reference_in(row: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The field `reference` where it is what we write: model names with two numbers; other data sets keep texts of theirs there."""
    value = row.get(REFERENCE)
    if not isinstance(value, Mapping):
        return {}
    both = {
        str(k): v for k, v in value.items() if isinstance(v, list | tuple) and len(v) == 2 and all(isinstance(x, int | float) for x in v)
    }
    return {k: (float(v[0]), float(v[1])) for k, v in both.items()} if len(both) == len(value) else {}


def checked(pair: PreferencePair) -> PreferencePair:
    """The pair where one can train on it. Raises RowError."""
    for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not text.strip():
            raise RowError("empty_answer", f"the {side} answer is empty")
    if pair.chosen.strip() == pair.rejected.strip():
        raise RowError("equal_answers", f"both answers read {pair.chosen[:80]!r}; nothing can be preferred")
    if not math.isfinite(pair.margin):
        raise RowError("bad_margin", f"the margin is {pair.margin}")
    if not all(math.isfinite(x) for both in pair.reference.values() for x in both):
        raise RowError("bad_reference", f"a log-probability of the reference is not finite: {dict(pair.reference)}")
    for image in pair.sample.images:
        try:
            pictures.open_image(image).close()
        except pictures.BadImage as error:
            raise RowError(error.reason, error.detail) from error
    return pair


# Writing


class Stored(NamedTuple):
    """The pictures of a pair as they are to stand in a file: `values` for the row, `embedded` for a writer that puts in bytes."""

    values: list[Any]
    embedded: tuple[Image, ...] = ()


def stored(images: Sequence[Image], format: str, file: Path) -> Stored:
    """Bytes for Parquet; elsewhere paths, and base64 of what has none. Raises BadImage."""
    if file.suffix == ".parquet":
        return Stored([{"path": i.path} for i in images], tuple(Image(i.path, pictures.encoded(i)) for i in images))
    root = None if format in ABSOLUTE else image_root_of(Shard(str(file), "jsonl", file.stem))
    return Stored([_named(image, root) for image in images])


def carrier(row: dict[str, Any], image_key: str, embedded: tuple[Image, ...]) -> Sample:
    """A sample that a writer of samples writes as `row`, with `embedded` in the field `image_key`."""
    return Sample("", (), embedded, None, Source("", 0, "", None, (image_key,) if embedded else ()), row)


def _named(image: Image, root: str | None) -> Any:
    """A picture as its path, or embedded. root: the folder that paths are relative to; None: absolute paths."""
    if image.data is not None:
        return {"bytes": image.data, "path": image.path}
    path = image.path or ""
    if is_remote(path) or (root is not None and is_remote(root)):
        return path
    absolute = os.path.abspath(local(path))  # noqa: PTH100 - resolve would follow links, which may be how the data is kept together
    return absolute if root is None else Path(os.path.relpath(absolute, local(root))).as_posix()


def with_rest(row: dict[str, Any], pair: PreferencePair, id_key: str = "id") -> dict[str, Any]:
    """`row` (the fields of a format) with id, margin, reference and all fields of the sample that it has no place for."""
    row |= {id_key: pair.sample.id, MARGIN: pair.margin}
    if pair.reference:
        row[REFERENCE] = {name: list(both) for name, both in pair.reference.items()}
    return row | {key: value for key, value in pair.sample.meta.items() if key not in row}


def placed_text(parts: Sequence[Part]) -> str:
    """The text of a turn; `<image>` stands for a picture."""
    return "".join(PLACEHOLDER if part.kind == "image" else part.text for part in parts)
