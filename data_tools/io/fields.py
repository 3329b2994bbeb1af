"""Which fields of a row are its caption, its pictures and its id; turning a row into a `Sample` and a `Sample` into a row."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from ..records import Image, Message, Part, Rejected, Role, Sample, Source
from . import images as pictures
from .paths import join

CAPTION_KEYS = ("caption", "text", "txt")
CONVERSATION_KEYS = ("conversations", "messages")
IMAGE_KEYS = ("image", "images", "image_path", "jpg", "jpeg", "png", "webp", "img", "file_name", "url", "image_url")
INLINE_KEYS = ("image", "image_url", "path", "url", "base64", "bytes")  # of an image part of a chat message
ID_KEYS = ("id", "uid", "key", "__key__", "sample_id")
ROLES: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
VIDEO_KEYS = ("video", "videos")
INLINE_VIDEO_KEYS = ("video", "video_url", "path", "url")  # of a video part of a chat message
PLACEHOLDER, VIDEO_PLACEHOLDER = "<image>", "<video>"
RAW_LIMIT = 2000  # characters of a rejected row that are kept

DATA_URI = re.compile(r"^data:[^,]{0,200};base64,", re.IGNORECASE)
MAGIC = ("/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk", "SUkq", "TU0A")  # base64 of the signatures of picture formats
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class RowError(ValueError):
    """Why a row cannot become a Sample; `reason` is what the quarantine counts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


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


def rejected(shard: str, row: int, format: str, reason: str, detail: str, raw: str = "") -> Rejected:
    return Rejected(Source(shard, row, format), reason, detail, raw[:RAW_LIMIT])


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


def as_struct(image: Any) -> Any:
    """A picture as our records write it in the layout that `images_in` reads."""
    return {"path": image.get("path"), "bytes": image.get("data", image.get("bytes"))} if isinstance(image, Mapping) else image


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
        return answer_text(value[_first_answer(value)])
    return text_in(value, f"caption field {key!r}")


def text_in(value: Any, what: str) -> str:
    """Text that UTF-8 can hold; `what` begins the sentence of the RowError that anything else is."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RowError("not_utf8", f"{what} is not UTF-8: {error}") from error
    if not isinstance(value, str):
        raise RowError("caption_type", f"{what} should be text, found {type(value).__name__} {str(value)[:80]}")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise RowError("bad_unicode", f"{what} holds half of a surrogate pair, which is no character")
    return value


def set_caption(meta: Mapping[str, Any], key: str | None, caption: str) -> dict[str, Any]:
    """A copy of the row whose caption field reads `caption`; a field that reads so already (null as "") is left as it is.

    `key` None means the first default caption field of the row, or a new field "caption". Of a conversation the first
    assistant turn is replaced, of a list of content parts its text parts by one.
    """
    row = dict(meta)
    key = key or next((k for k in (*CAPTION_KEYS, *CONVERSATION_KEYS) if k in row), "caption")
    if key in row and caption_of(row, key) == caption:
        return row
    row[key] = _with_answer(row[key], caption) if key in CONVERSATION_KEYS and isinstance(row.get(key), list) else caption
    return row


# Conversations


def conversation(turns: Any, images: int, videos: int = 0) -> tuple[Message, ...]:
    """LLaVA `conversations` or chat `messages` as Messages; assistant turns train. Pictures and films that no turn places go before
    the first user turn. A row of films alone may place them by `<image>`, as LLaVA-Video's do. Raises RowError when turns are malformed
    or place another number than there are."""
    messages = [Message(_role(t), _parts(t), _role(t) == "assistant") for t in turns]
    if videos:
        messages = [replace(m, parts=tuple(q for p in m.parts for q in _split(p, VIDEO_PLACEHOLDER, "video"))) for m in messages]
        if not images and not _placed(messages, "video"):
            messages = [replace(m, parts=tuple(Part("video") if p.kind == "image" else p for p in m.parts)) for m in messages]
        messages = _shown(messages, "video", videos, "films")
    return tuple(_shown(messages, "image", images, "pictures"))


def _placed(messages: Sequence[Message], kind: str) -> int:
    return sum(part.kind == kind for message in messages for part in message.parts)


def _shown(messages: list[Message], kind: Literal["image", "video"], count: int, noun: str) -> list[Message]:
    """The messages with `count` parts of the kind, put before the first user turn where there are none."""
    placed = _placed(messages, kind)
    if placed == 0 and count:
        first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
        if first is None:
            raise RowError("conversation_type", f"no user turn to show the {noun} in")
        return [replace(m, parts=(Part(kind),) * count + m.parts) if i == first else m for i, m in enumerate(messages)]
    if placed != count:
        raise RowError(f"{kind}_count", f"the conversation places {placed} {noun}, the row has {count}")
    return messages


def in_order(messages: Sequence[Message], images: tuple[Image, ...], films: tuple[Image, ...]) -> tuple[Image, ...]:
    """Pictures and films as the conversation places them."""
    if not films:
        return images
    given = {"image": iter(images), "video": iter(films)}
    return tuple(next(given[part.kind]) for message in messages for part in message.parts if part.kind in given)


def _first_answer(turns: list[Any]) -> int:
    for i, turn in enumerate(turns):
        if _role(turn) == "assistant":
            return i
    raise RowError("no_answer", "the conversation has no assistant turn")


def _role(turn: Any) -> Role:
    if not isinstance(turn, Mapping):
        raise RowError("conversation_type", f"a turn should be an object, found {type(turn).__name__}")
    name = turn.get("from", turn.get("role"))
    if not isinstance(name, str) or name not in ROLES:
        raise RowError("conversation_type", f"a turn's role should be one of {', '.join(ROLES)}, found {str(name)[:80]}")
    return ROLES[name]


def _content(turn: Mapping[str, Any]) -> Any:
    return turn["value"] if "value" in turn else turn.get("content")


def answer_text(turn: Mapping[str, Any]) -> str:
    """The text of a turn, "" for null. Raises RowError."""
    content = _content(turn)
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(p.text for p in _parts(turn) if p.kind == "text")
    return text_in(content, "an assistant turn")


def _parts(turn: Mapping[str, Any]) -> tuple[Part, ...]:
    content = _content(turn)
    if isinstance(content, list):
        return tuple(_part(p) for p in content)
    return _split(Part("text", text_in(content if content is not None else "", "a turn")), PLACEHOLDER, "image")


def _split(part: Part, mark: str, kind: Literal["image", "video"]) -> tuple[Part, ...]:
    """A text part around the places that `mark` names."""
    if part.kind != "text" or mark not in part.text:
        return (part,)
    pieces: list[Part] = []
    for i, piece in enumerate(part.text.split(mark)):
        pieces += [Part(kind)] if i else []
        pieces += [Part("text", piece.strip("\n"))] if piece.strip("\n") else []
    return tuple(pieces)


def _part(content: Any) -> Part:
    kind = content.get("type") if isinstance(content, Mapping) else None
    if kind == "text":
        return Part("text", text_in(content.get("text"), "a text part"))
    if kind in ("image", "image_url"):
        return Part("image")
    if kind in ("video", "video_url"):
        return Part("video")
    raise RowError("conversation_type", f"a content part should have type text, image or video, found {str(content)[:80]}")


def _with_answer(turns: list[Any], caption: str) -> list[Any]:
    at = _first_answer(turns)
    turn = dict(turns[at])
    name = "value" if "value" in turn else "content"
    if isinstance(turn.get(name), list):
        texts = [i for i, p in enumerate(turn[name]) if p.get("type") == "text"]
        kept = [p for i, p in enumerate(turn[name]) if i not in texts[1:]]
        turn[name] = [{**p, "text": caption} if p.get("type") == "text" else p for p in kept] or [{"type": "text", "text": caption}]
    else:
        turn[name] = caption
    return [*turns[:at], turn, *turns[at + 1 :]]


# Pictures


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
    return () if key is None else (key,), tuple(Image(path=join(root, _film_path(value))) for value in values)


def _film_path(value: Any) -> str:
    path = next((value[key] for key in ("path", "url") if value.get(key)), None) if isinstance(value, Mapping) else value
    if not isinstance(path, str) or not path:
        raise RowError("video_type", f"a film is given by its path, found {type(value).__name__} {str(value)[:80]}")
    return path


def inline_pictures(
    turns: Sequence[Any], types: tuple[str, ...] = ("image", "image_url"), keys: tuple[str, ...] = INLINE_KEYS
) -> list[Any]:
    """What image parts (or those of other `types`) hold themselves: {"type": "image", "path": ...}, {"type": "image_url", "image_url":
    {"url": ...}}."""
    parts = [p for turn in turns if isinstance(turn, Mapping) for p in _listed(_content(turn)) if isinstance(p, Mapping)]
    held = [next((p[k] for k in keys if not is_nothing(p.get(k))), None) for p in parts if p.get("type") in types]
    return [value["url"] if isinstance(value, Mapping) and "url" in value else value for value in held if value is not None]


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def is_nothing(value: Any) -> bool:
    """Whether a picture field is empty."""
    if isinstance(value, Mapping):
        return value.get("bytes") is None and not value.get("path") and not value.get("url")
    return value is None or value == "" or value == []


def images_in(value: Any, key: str, root: str) -> tuple[Image, ...]:
    """The pictures that a field holds: a path, base64, a data URI, bytes, {"bytes", "path"}, or a list of these. Raises RowError."""
    values = value if isinstance(value, list) else [value]
    return tuple(_image(v, key, root) for v in values)


def _image(value: Any, key: str, root: str) -> Image:
    if isinstance(value, str):
        data = _embedded(value)
        return Image(path=join(root, value)) if data is None else Image(data=data)
    if isinstance(value, bytes):
        return Image(data=value)
    if isinstance(value, Mapping) and isinstance(value.get("path"), str | None):
        return _from_struct(value, key, root)
    raise RowError(
        "image_type", f"picture field {key!r} should hold a path, base64, bytes or {{bytes, path}}, found {type(value).__name__}"
    )


def _from_struct(value: Mapping[str, Any], key: str, root: str) -> Image:
    data, path = value.get("bytes"), value.get("path")
    if data is None:
        if not path:
            raise RowError("missing_image", f"picture field {key!r} has neither bytes nor a path")
        return Image(path=join(root, path))
    if isinstance(data, str):
        data = _base64(DATA_URI.sub("", data), key)
    if not isinstance(data, bytes):
        raise RowError("image_type", f"'bytes' of picture field {key!r} should be base64 or bytes, found {type(data).__name__}")
    return Image(path=path, data=data)


def _base64(text: str, key: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("bad_base64", f"picture field {key!r} is not base64: {error}") from error


def _embedded(text: str) -> bytes | None:
    """Bytes when the text is a data URI or bare base64 of a picture; None when it is a path (which has a dot, or is short)."""
    uri = DATA_URI.match(text)
    if uri:
        return _base64(text[uri.end() :], "data URI")
    if len(text) < 40 or not (text.startswith(MAGIC) or len(text) > 4096):
        return None
    joined = "".join(text.split())
    try:
        return base64.b64decode(joined, validate=True) if BASE64.fullmatch(joined) else None
    except (binascii.Error, ValueError):
        return None


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


def struct_of(image: Image) -> dict[str, Any]:
    """The Hugging Face layout of one picture, its bytes read from its file; {"bytes": None, "path"} when it cannot be read."""
    try:
        return {"bytes": pictures.encoded(image), "path": image.path}
    except (pictures.BadImage, OSError):
        return {"bytes": None, "path": image.path}


# Words for people


def names_of(meta: Mapping[str, Any]) -> str:
    """The fields of a row, the first twelve."""
    return (", ".join(repr(str(k)) for k in list(meta)[:12]) or "no field") + (" ..." if len(meta) > 12 else "")


def excerpt(meta: Mapping[str, Any]) -> str:
    """A row as short JSON text for the quarantine; long values are cut, bytes become their length."""
    short = {str(k): _short(v) for k, v in meta.items()}
    return json.dumps(short, ensure_ascii=False, default=str)[:RAW_LIMIT]


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return value if len(value) <= 400 else value[:400] + " ..."
    if isinstance(value, Mapping):
        return {str(k): _short(v) for k, v in value.items()}
    return [_short(v) for v in value[:8]] if isinstance(value, list) else value
