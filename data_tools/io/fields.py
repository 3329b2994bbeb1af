"""Which fields of a row are its caption, its pictures and its id; turning a row into a `Sample` and a `Sample` into a row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..records import Image, Rejected, Sample, Source
from . import images as pictures
from .conversations import answer_text, conversation, first_answer, in_order, with_answer
from .paths import join
from .picture_values import INLINE_VIDEO_KEYS, as_struct, film_path, images_in, inline_pictures, is_nothing, struct_of
from .refusals import RowError, excerpt, names_of, rejected, text_in

CAPTION_KEYS = ("caption", "text", "txt")
CONVERSATION_KEYS = ("conversations", "messages")
IMAGE_KEYS = ("image", "images", "image_path", "jpg", "jpeg", "png", "webp", "img", "file_name", "url", "image_url")
ID_KEYS = ("id", "uid", "key", "__key__", "sample_id")
VIDEO_KEYS = ("video", "videos")


class Row(NamedTuple):
    """One row as it stands in its file: its number from 0, and its fields."""

    number: int
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller asked for: field names (None: the defaults in order) and the folder that image paths are relative to.

    conversations_first: of a row with a caption and a conversation, the conversation is read.
    caption_optional: a row without the caption field is a sample whose caption is None.
    videos: a conversation's films are read too, as the sample's pictures by their paths; where not, such rows are Rejected.
    """

    caption_key: str | None = None
    image_key: str | None = None
    image_root: str = ""
    conversations_first: bool = False
    caption_optional: bool = False
    videos: bool = False


Given = tuple[tuple[str, ...], tuple[Image, ...]]


def sample_of(
    meta: Mapping[str, Any],
    shard: str,
    row: int,
    format: str,
    wanted: Wanted,
    caption_first: tuple[str, ...] = (),
    given: Given | None = None,
) -> Sample | Rejected:
    """One row as a Sample, or as a Rejected that names what is wrong.

    `caption_first`: keys tried before the defaults. `given`: the pictures and their names, when they are no fields of the row.
    """
    try:
        return _sample(meta, shard, row, format, wanted, caption_first, given)
    except RowError as error:
        return rejected(shard, row, format, error.reason, error.detail, excerpt(meta))


def _sample(
    meta: Mapping[str, Any], shard: str, row: int, format: str, wanted: Wanted, caption_first: tuple[str, ...], given: Given | None
) -> Sample:
    if is_record(meta):
        return _record(meta, shard, row, format, wanted)
    talks = [k for k in CONVERSATION_KEYS if wanted.conversations_first and isinstance(meta.get(k), list)]
    caption_key = _caption_key(meta, wanted, (*talks, *caption_first))
    said = None if caption_key is None else meta[caption_key]
    talk = caption_key in CONVERSATION_KEYS and isinstance(said, Sequence) and not isinstance(said, (str, bytes))
    caption = None if caption_key is None else caption_of(meta, caption_key)
    image_keys, images = _images(meta, wanted, said if talk else None, given)
    film_keys, films = _films(meta, said or (), wanted.image_root) if talk and wanted.videos else ((), ())
    messages = conversation(said, len(images), len(films)) if talk else ()
    id_key, name = given_id(meta)
    source = Source(shard, row, format, caption_key, image_keys + film_keys, id_key)
    told = "\n".join([caption or "", *(str(film.path) for film in films)])  # a film is not read for its row's name
    return Sample(name or content_id(images, told), messages, in_order(messages, images, films), caption, source, meta)


# Our own records


def is_record(meta: Mapping[str, Any]) -> bool:
    """Whether a row is a `Sample` as `to_dict` writes it."""
    return isinstance(meta.get("schema"), int) and isinstance(meta.get("meta"), Mapping) and "messages" in meta and "images" in meta


def _record(meta: Mapping[str, Any], shard: str, row: int, format: str, wanted: Wanted) -> Sample:
    """The row's own sample, its pictures found as in any row; `Sample.meta` is the row, whose field `meta` is the record's."""
    try:
        kept = Sample.from_dict({**meta, "images": [], "source": None})
    except (KeyError, TypeError, ValueError) as error:
        raise RowError("bad_record", f"a row with a schema number should hold a sample of ours: {type(error).__name__}: {error}") from error
    images = images_in([as_struct(i) for i in meta["images"]], "images", wanted.image_root)
    source = Source(shard, row, format, "caption", ("images",), "id")
    return Sample(kept.id, kept.messages, images, kept.caption or "", source, meta)


# Captions


def _caption_key(meta: Mapping[str, Any], wanted: Wanted, first: tuple[str, ...]) -> str | None:
    asked = wanted.caption_key
    known = (*first, *CAPTION_KEYS, *CONVERSATION_KEYS) if asked is None else (asked,)
    if wanted.caption_optional:
        return next((key for key in known if key in meta), None)
    if asked is not None:
        if asked not in meta:
            raise RowError("missing_caption", f"no field {asked!r}; the row has {names_of(meta)}")
        return asked
    for key in known:
        if key in meta:
            return key
    expected = ", ".join((*CAPTION_KEYS, *CONVERSATION_KEYS))
    raise RowError("missing_caption", f"none of {expected} in the row, which has {names_of(meta)}; name the field with --caption-key")


def caption_of(meta: Mapping[str, Any], key: str) -> str:
    """The caption that field `key` holds: its text, "" for null, or the first assistant turn of a conversation. Raises RowError."""
    value = meta[key]
    if value is None:
        return ""
    if isinstance(value, list) and key in CONVERSATION_KEYS:
        return answer_text(value[first_answer(value)])
    return text_in(value, f"caption field {key!r}")


def set_caption(meta: Mapping[str, Any], key: str | None, caption: str) -> dict[str, Any]:
    """A copy of the row whose caption field reads `caption`; a field that reads so already (null as "") is left as it is.

    `key` None means the first default caption field of the row, or a new field "caption". Of a conversation the first
    assistant turn is replaced, of a list of content parts its text parts by one.
    """
    row = dict(meta)
    key = key or next((k for k in (*CAPTION_KEYS, *CONVERSATION_KEYS) if k in row), "caption")
    if key in row and caption_of(row, key) == caption:
        return row
    row[key] = with_answer(row[key], caption) if key in CONVERSATION_KEYS and isinstance(row.get(key), list) else caption
    return row


# Pictures and films


def _images(meta: Mapping[str, Any], wanted: Wanted, turns: Sequence[Any] | None, given: Given | None) -> Given:
    """The names and pictures of a row; a conversation (`turns`) may hold them in its parts, or do without."""
    if given is not None and (given[1] or turns is not None):
        return given
    keys = IMAGE_KEYS if wanted.image_key is None else (wanted.image_key,)
    for key in keys if given is None else ():
        if key in meta and not is_nothing(meta[key]):
            return (key,), images_in(meta[key], key, wanted.image_root)
    if turns is not None and wanted.image_key is None:
        return (), images_in(inline_pictures(turns), "content", wanted.image_root)
    raise RowError(
        "missing_image", f"no picture in {' or '.join(map(repr, keys))}; the row has {names_of(meta)}; name the field with --image-key"
    )


def _films(meta: Mapping[str, Any], turns: Sequence[Any], root: str) -> Given:
    """The names and paths of a row's films, of its field `video` or `videos` or of its conversation's parts. Raises RowError."""
    key = next((key for key in VIDEO_KEYS if not is_nothing(meta.get(key))), None)
    values = inline_pictures(turns, ("video", "video_url"), INLINE_VIDEO_KEYS) if key is None else meta[key]
    values = values if isinstance(values, list) else [values]
    return () if key is None else (key,), tuple(Image(path=join(root, film_path(value))) for value in values)


# Ids


def given_id(meta: Mapping[str, Any]) -> tuple[str | None, str]:
    """The field that names the row and the name, or (None, "")."""
    for key in ID_KEYS:
        value = meta.get(key)
        if isinstance(value, str) and value and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)):
            return key, value
        if isinstance(value, int) and not isinstance(value, bool):
            return key, str(value)
    return None, ""


def content_id(images: Sequence[Image], caption: str) -> str:
    """sha256 of the encoded pictures followed by the caption in UTF-8; a picture that cannot be read counts as its path."""
    digest = hashlib.sha256()
    for image in images:
        _hash_picture(digest, image)
    digest.update(caption.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _hash_picture(digest: Any, image: Image) -> None:
    if image.data is not None:
        digest.update(image.data)
        return
    try:
        with pictures.open_image(image) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except (pictures.BadImage, OSError):
        digest.update((image.path or "").encode("utf-8", "surrogatepass"))


# From samples back to rows


def row_of(sample: Sample) -> dict[str, Any]:
    """The row to write: `meta` with the caption field set. A sample made in memory (no source) also gets id, image and caption
    fields when `meta` lacks them."""
    if sample.source is not None:
        return (
            set_caption(sample.meta, sample.source.caption_key, sample.caption or "") if sample.caption is not None else dict(sample.meta)
        )
    row: dict[str, Any] = {} if any(k in sample.meta for k in ID_KEYS) else {"id": sample.id}
    if sample.images and not any(k in sample.meta for k in IMAGE_KEYS):
        values = [struct_of(i) if i.data is not None else i.path for i in sample.images]
        row |= {"image": values[0]} if len(values) == 1 else {"images": values}
    if sample.caption is not None and not any(k in sample.meta for k in (*CAPTION_KEYS, *CONVERSATION_KEYS)):
        row["caption"] = sample.caption
    row |= sample.meta
    return row if sample.caption is None else set_caption(row, None, sample.caption)


def image_keys_of(sample: Sample) -> tuple[str, ...]:
    """The fields of `row_of(sample)` that hold pictures."""
    if sample.source is not None:
        return sample.source.image_keys
    keys = [k for k in IMAGE_KEYS if k in sample.meta]
    return tuple(keys[:1]) if keys else ("image",) if len(sample.images) == 1 else ("images",) if sample.images else ()
