"""Builds an adapter from its config: {"type": ..., options}."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ..tokens import TokenFacts
from .base import Adapter


def build_adapter(config: Mapping[str, Any], inputs: Sequence[TokenFacts], out_width: int) -> Adapter:
    """The adapter that `config` names, for what the branches give.

    Raises ValueError for an unknown type or option (with the nearest known one), and for a number of branches that the adapter
    does not take.
    """
    from . import ADAPTERS  # the table imports this module

    options = {key: value for key, value in config.items() if key != "type"}
    kind = str(config.get("type"))
    if kind not in ADAPTERS:
        raise ValueError(f"unknown adapter type '{kind}'; {_nearest(kind, list(ADAPTERS))}")
    known = [name for name in inspect.signature(ADAPTERS[kind]).parameters if name not in ("inputs", "out_width")]
    for option in options:
        if option not in known:
            raise ValueError(f"adapter '{kind}' has no option '{option}'; {_nearest(option, known)}")
    _check_branches(kind, ADAPTERS[kind].branches, len(inputs))
    return ADAPTERS[kind](inputs, out_width, **options)


def _check_branches(kind: str, wanted: tuple[int, int | None], count: int) -> None:
    least, most = wanted
    if count < least or (most is not None and count > most):
        number = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(
            f"adapter '{kind}' takes {number} branch{'es' * (number != '1')} of visual tokens, the model has {count}; set `branches`"
        )


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
