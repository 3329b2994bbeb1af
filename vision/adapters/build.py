"""Builds an adapter from its config: {"type": ..., options}."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from .base import Adapter


def build_adapter(config: Mapping[str, Any], in_width: int, out_width: int) -> Adapter:
    """The adapter that `config` names; ValueError for an unknown type or option, with the nearest known one."""
    from . import ADAPTERS  # the table imports this module

    options = {key: value for key, value in config.items() if key != "type"}
    kind = str(config.get("type"))
    if kind not in ADAPTERS:
        raise ValueError(f"unknown adapter type '{kind}'; {_nearest(kind, list(ADAPTERS))}")
    known = [name for name in inspect.signature(ADAPTERS[kind]).parameters if name not in ("in_width", "out_width")]
    for option in options:
        if option not in known:
            raise ValueError(f"adapter '{kind}' has no option '{option}'; {_nearest(option, known)}")
    return ADAPTERS[kind](in_width, out_width, **options)


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
