"""Why a row cannot become a `Sample`, and what the quarantine keeps of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..records import Rejected, Source

RAW_LIMIT = 2000  # characters of a rejected row that are kept


class RowError(ValueError):
    """Why a row cannot become a Sample; `reason` is what the quarantine counts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def rejected(shard: str, row: int, format: str, reason: str, detail: str, raw: str = "") -> Rejected:
    return Rejected(Source(shard, row, format), reason, detail, raw[:RAW_LIMIT])


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
