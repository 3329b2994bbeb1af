"""Builds a reducer from its config: {"type": ..., options}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..nearest import nearest
from .base import Reducer


def build_reducer(config: Mapping[str, Any]) -> Reducer:
    """The reducer that `config` names. ValueError for an unknown type or option, with the nearest known one."""
    from . import REDUCERS  # the table imports this module

    options = {key: value for key, value in config.items() if key != "type"}
    kind = str(config.get("type"))
    if kind not in REDUCERS:
        raise ValueError(f"unknown reducer type '{kind}'; {nearest(kind, REDUCERS)}")
    known = [field.name for field in fields(REDUCERS[kind])]
    for option in options:
        if option not in known:
            raise ValueError(f"reducer '{kind}' has no option '{option}'; {nearest(option, known)}")
    return REDUCERS[kind](**options)
