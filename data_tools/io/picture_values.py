"""What a field holds of pictures and films: paths, base64, data URIs, bytes, {bytes, path}, parts of a conversation."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..records import Image
from . import images as pictures
from .conversations import content_of
from .paths import join
from .refusals import RowError

INLINE_KEYS = ("image", "image_url", "path", "url", "base64", "bytes")  # of an image part of a chat message
INLINE_VIDEO_KEYS = ("video", "video_url", "path", "url")  # of a video part of a chat message
DATA_URI = re.compile(r"^data:[^,]{0,200};base64,", re.IGNORECASE)
MAGIC = ("/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk", "SUkq", "TU0A")  # base64 of the signatures of picture formats
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def film_path(value: Any) -> str:
    """The path that a value names a film by. Raises RowError."""
    path = next((value[key] for key in ("path", "url") if value.get(key)), None) if isinstance(value, Mapping) else value
    if not isinstance(path, str) or not path:
        raise RowError("video_type", f"a film is given by its path, found {type(value).__name__} {str(value)[:80]}")
    return path


def inline_pictures(
    turns: Sequence[Any], types: tuple[str, ...] = ("image", "image_url"), keys: tuple[str, ...] = INLINE_KEYS
) -> list[Any]:
    """What image parts (or those of other `types`) hold themselves: {"type": "image", "path": ...}, {"type": "image_url", "image_url":
    {"url": ...}}."""
    parts = [p for turn in turns if isinstance(turn, Mapping) for p in _listed(content_of(turn)) if isinstance(p, Mapping)]
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


def as_struct(image: Any) -> Any:
    """A picture as our records write it in the layout that `images_in` reads."""
    return {"path": image.get("path"), "bytes": image.get("data", image.get("bytes"))} if isinstance(image, Mapping) else image


def struct_of(image: Image) -> dict[str, Any]:
    """The Hugging Face layout of one picture, its bytes read from its file; {"bytes": None, "path"} when it cannot be read."""
    try:
        return {"bytes": pictures.encoded(image), "path": image.path}
    except (pictures.BadImage, OSError):
        return {"bytes": None, "path": image.path}
