"""What is said of a config's options: a value of the wrong type, with the type expected; an unknown name, with the nearest known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

import pydantic


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the name that was meant, or all that there are."""
    names = list(known)
    near = difflib.get_close_matches(word, names, 1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"


def check_types(what: str, taker: type, options: Mapping[str, Any]) -> None:
    """ValueError for the first option whose value is not of the type that `taker.__init__` annotates; `what` begins the sentence."""
    hints = get_type_hints(taker.__init__)  # type: ignore[misc]
    for option in options.keys() & hints.keys():
        try:
            pydantic.TypeAdapter(hints[option]).validate_python(options[option], strict=True)
        except pydantic.ValidationError as error:
            expected = " or ".join(dict.fromkeys(found["msg"].removeprefix("Input ") for found in error.errors()))
            raise ValueError(f"{what}: {option} {expected}, but is {options[option]!r}") from error
