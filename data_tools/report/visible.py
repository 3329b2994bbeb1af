"""Makes characters that could rearrange or break a page show as what they are."""

from __future__ import annotations

import re

HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str | None) -> str:
    """Control characters, direction marks and lone surrogates as ⟨U+001B⟩; tab and newline stay. None is "".

    Emoji joiners (U+200C, U+200D) stay too: they are part of the writing of many languages.
    """
    return HIDDEN.sub(_named, text or "")


def _named(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"  # the control pictures at U+2400 are missing from common fonts
