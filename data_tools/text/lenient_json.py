"""Read the JSON-like objects of a model's reply: strict ones, Python dicts, and ones that are broken or cut short."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .words import encodable

_TRIES = 8  # opening braces looked at: bounds the work on adversarial replies
_KEY = re.compile(r"""[\s,]*(?:"((?:[^"\\]|\\.){0,80})"|'((?:[^'\\]|\\.){0,80})')\s*:\s*""", re.DOTALL)
_END = re.compile(r"[\s,]*\}")
_BARE = re.compile(r"[^,}\n]*")
_QUOTES = {'"': re.compile(r'[\\"]'), "'": re.compile(r"[\\']")}
# A quote closes a value only where an object could go on or end; other quotes are text the model forgot to escape.
_AFTER_VALUE = re.compile(r"""\s*(?:\}|\Z|,\s*(?:["'}]|\Z)|["'][\w/\- ]{1,60}["']\s*:)|[^\S\n]*\n\s*["']""")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LITERALS = {"true": True, "false": False, "null": None, "none": None}


class LooseObject(NamedTuple):
    """`fields`: complete values only. `cut`: the key whose value the text ended in, with what there is of it. `span`: [start, end)."""

    fields: dict[str, Any]
    span: tuple[int, int]
    strict: bool
    closed: bool
    cut: tuple[str, str] | None = None


def read_objects(text: str) -> Iterator[LooseObject]:
    """Objects beginning at the first few opening braces, first strict JSON ones, then the others as far as they can be read.

    Takes time linear in the length of the text whatever is in it. Raises nothing.
    """
    starts = _starts(text)
    decoder = json.JSONDecoder()
    for start in starts:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # ValueError covers bad syntax and integers of thousands of digits
            continue
        yield LooseObject(value, (start, end), strict=True, closed=True)
    for start in starts:
        yield _read_loosely(text, start)


def read_python_dict(text: str) -> LooseObject | None:
    """The Python dict literal between the first opening and the last closing brace, or None. Literals only: nothing is run."""
    start, end = text.find("{"), text.rfind("}") + 1
    if not 0 <= start < end:
        return None
    try:
        value = ast.literal_eval(text[start:end])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return LooseObject({str(k): v for k, v in value.items()}, (start, end), strict=False, closed=True)


def _starts(text: str) -> list[int]:
    found: list[int] = []
    at = text.find("{")
    while at >= 0 and len(found) < _TRIES:
        found.append(at)
        at = text.find("{", at + 1)
    return found


def _read_loosely(text: str, start: int) -> LooseObject:
    fields: dict[str, Any] = {}
    at = start + 1
    while key := _KEY.match(text, at):
        name = _unescape(key[1] if key[1] is not None else key[2])
        value, after = _read_value(text, key.end())
        if after is None:
            return LooseObject(fields, (start, len(text)), strict=False, closed=False, cut=(name, value))
        fields[name], at = value, after
    end = _END.match(text, at)
    return LooseObject(fields, (start, end.end() if end else at), strict=False, closed=end is not None)


def _read_value(text: str, at: int) -> tuple[Any, int | None]:
    """The value that starts at `at` and the position behind it; the position is None when the text ends before the value does."""
    opening = text[at : at + 1]
    if opening in _QUOTES:
        end = _closing_quote(text, at + 1, opening)
        return (_unescape(text[at + 1 :]), None) if end is None else (_unescape(text[at + 1 : end]), end + 1)
    if opening in ("{", "["):
        try:
            return json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            return text[at:], None
    end = _BARE.match(text, at).end()  # type: ignore[union-attr]  # matches the empty string at worst
    bare = text[at:end].strip()
    return (bare, None) if end == len(text) else (_LITERALS.get(bare.lower(), bare), end)


def _closing_quote(text: str, at: int, quote: str) -> int | None:
    while mark := _QUOTES[quote].search(text, at):
        if mark[0] == "\\":
            at = mark.end() + 1
        elif _AFTER_VALUE.match(text, mark.end()):
            return mark.start()
        else:
            at = mark.end()
    return None


def _unescape(body: str) -> str:
    return encodable(_ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _PLAIN_ESCAPES.get(m[2], m[2]), body))
