"""One picture with a `.txt` and a `.json` beside it, as tars and folders keep them: from files to a row and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..records import Sample
from .fields import CAPTION_KEYS, image_keys_of, row_of
from .jsonl import dump
from .refusals import RowError

TEXT, DATA = "txt", "json"
MEMBERS = "__members__"
PICTURE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")


def is_picture(ending: str) -> bool:
    return ending.rpartition(".")[2].lower() in PICTURE_ENDINGS


def meta_of(head: Mapping[str, Any], text: bytes | None, data: bytes | None) -> dict[str, Any]:
    """A flat row: `head`, then `txt` (without the line break at its end), then the fields of the json file. Raises RowError.

    A json field of the same name as one of the others is not shown; `sidecars_of` writes it back unchanged.
    """
    meta = dict(head)
    if text is not None:
        meta[TEXT] = caption_in(text)
    return meta | {k: v for k, v in object_in(data).items() if k not in meta}


def caption_in(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RowError("not_utf8", f"the txt file is not UTF-8: {error}") from error


def object_in(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowError("not_utf8", f"the json file is not UTF-8: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RowError("bad_json", f"the json file is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RowError("not_an_object", f"the json file should hold an object, found {type(found).__name__}")
    return found


def sidecars_of(sample: Sample, head: tuple[str, ...], text: bytes | None, data: bytes | None) -> tuple[bytes | None, bytes | None]:
    """The txt and json files to write for a row that was read with `meta_of` from the files `text` and `data`.

    A file whose content did not change keeps its bytes; new fields go to the json file, which is made when there is none.
    """
    row = row_of(sample)
    original = object_in(data)
    hidden = {*head, MEMBERS, *([TEXT] if text is not None else [])}
    kept = {k: original[k] if k in hidden else row[k] for k in original if k in hidden or k in row}
    fields = kept | {k: v for k, v in row.items() if k not in hidden and k not in kept}
    if text is not None and row.get(TEXT) != caption_in(text):
        text = _bytes(row.get(TEXT) or "")
    if data is not None and list(fields) == list(original) and fields == original:
        return text, data
    return text, dump(fields)[:-1] if fields or data is not None else None


def sidecars_from(sample: Sample, head: tuple[str, ...]) -> tuple[bytes | None, bytes | None]:
    """The txt and json files for a row of another format: the caption as txt, all but the pictures as json."""
    row = row_of(sample)
    gone = {*head, *image_keys_of(sample), MEMBERS}
    key = sample.source.caption_key if sample.source else next((k for k in CAPTION_KEYS if k in row), None)
    text = None
    if key in row and isinstance(row[key], str):
        gone.add(key)
        text = _bytes(row[key])
    fields = {k: v for k, v in row.items() if k not in gone}
    return text, dump(fields)[:-1] if fields else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
