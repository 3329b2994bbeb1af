"""Docstrings of this tree as Markdown: shapes and `name: what it is` as code, everything else as it stands."""

from __future__ import annotations

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`)")


class Docstrings(griffe.Extension):
    """Rewrites each docstring that was read."""

    def on_object(self, *, obj: griffe.Object, loader: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = marked(obj.docstring.value, _names(obj))
            if isinstance(obj, griffe.Class) and "NamedTuple" in map(str, obj.bases):
                fields = [_field(attribute) for attribute in obj.attributes.values() if "property" not in attribute.labels]
                obj.docstring.value += f"\n\nFields: {', '.join(fields)}."


def marked(text: str, names: list[str]) -> str:
    """`text` with shapes such as [B, N, D], and each of `names` that a colon follows, as code. What is code stays."""
    if names:
        text = _outside_code(rf"(?<![\w.])({'|'.join(map(re.escape, names))}): ", r"`\1`: ", text)
    return _outside_code(r"[*_<]", r"\\\g<0>", _outside_code(r"(?:\[[^\[\]]*\])+", r"`\g<0>`", text))


def _outside_code(pattern: str, new: str, text: str) -> str:
    return "".join(piece if piece.startswith("`") else re.sub(pattern, new, piece) for piece in CODE.split(text))


def _field(attribute: griffe.Attribute) -> str:
    default = "" if attribute.value is None else f" = {attribute.value}"
    return f"`{attribute.name}: {attribute.annotation}{default}`"


def _names(obj: griffe.Object) -> list[str]:
    if isinstance(obj, griffe.Function):
        return [parameter.name for parameter in obj.parameters]
    return list(obj.attributes) if isinstance(obj, griffe.Class) else []
