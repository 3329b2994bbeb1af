"""Docstrings of this tree as Markdown: shapes and `name: what it is` as code, everything else as it stands."""

from __future__ import annotations

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`)")
SHAPE = re.compile(r"((?:\[[^\[\]`]*\])+)")


class Docstrings(griffe.Extension):
    """Rewrites each docstring that was read."""

    def on_object(self, *, obj: griffe.Object, loader: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = marked(obj.docstring.value, _names(obj))


def marked(text: str, names: list[str]) -> str:
    """`text` with shapes such as [B, N, D], and each of `names` that a colon follows, as code. What is code stays."""
    named = re.compile(rf"(?<![\w.`])({'|'.join(map(re.escape, names))}): ") if names else None
    pieces = [piece if piece.startswith("`") else SHAPE.sub(r"`\1`", _plain(piece)) for piece in CODE.split(text)]
    return "".join(piece if piece.startswith("`") or not named else named.sub(r"`\1`: ", piece) for piece in pieces)


def _plain(text: str) -> str:
    return re.sub(r"([*_<])", r"\\\1", text)


def _names(obj: griffe.Object) -> list[str]:
    if isinstance(obj, griffe.Function):
        return [parameter.name for parameter in obj.parameters]
    return list(obj.attributes) if isinstance(obj, griffe.Class) else []
