"""Options of a config against the annotated types of what takes them: what does not fit is named with the type expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

import pydantic


def check_types(what: str, taker: type, options: Mapping[str, Any]) -> None:
    """ValueError for the first option whose value is not of the type that `taker.__init__` annotates; `what` begins the sentence."""
    hints = get_type_hints(taker.__init__)  # type: ignore[misc]
    for option in options.keys() & hints.keys():
        try:
            pydantic.TypeAdapter(hints[option]).validate_python(options[option], strict=True)
        except pydantic.ValidationError as error:
            expected = " or ".join(dict.fromkeys(found["msg"].removeprefix("Input ") for found in error.errors()))
            raise ValueError(f"{what}: {option} {expected}, but is {options[option]!r}") from error
