"""Checks that a rewrite must pass before it may replace a caption; one that fails leaves the raw caption in place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Literal

from ..text import guess_language, repetition, script
from ..text.pii import added_pii

BANNED_OPENINGS = (
    *map(
        " ".join,
        product(
            ("the", "this"),
            ("image", "picture", "photo", "photograph"),
            ("shows", "depicts", "displays", "features", "contains", "captures", "illustrates", "portrays", "presents", "is of"),
        ),
    ),
    "in the image", "in this image", "in the picture", "in this picture", "here is", "here's", "sure,", "i'm sorry", "i am sorry", "sorry,",
    "i cannot", "i can't", "as an ai", "caption:", "recaption:", "description:",
)  # fmt: skip

_LEFTOVER = re.compile(
    r"""<\|[^|<>]{1,40}\|>|</?s>|</?image>|<overall>|```|["'](?:recaption|overall score)["']|[{}]|\ufffd"""
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]",  # control characters but tab and newline; surrogates
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Guards:
    """Limits on rewrites. All are this toolkit's choice; the released model has none.

    Length, in characters: too short under `min_ratio` of the raw caption unless it has `enough_chars` (junk of any length may become one
    sentence); too long over `max_ratio` of it unless within `roomy_chars` (an empty caption or a file name may become a sentence).
    language: "any" checks nothing; "same" wants the raw caption's; a code such as "en" (default: the language the model is asked in)
    allows the raw caption's or that one, so that a caption in another language may be put into English but never the other way round.
    Where the raw caption's language cannot be told, its script must stay (a caption without letters counts as Latin).
    max_repetition: see `data_tools.text.repetition`.  banned_openings: casefolded, compared with the rewrite's start.
    pii: personal data that is found by its form (see `data_tools.text.pii`): "added" refuses a rewrite that holds some which the raw
    caption does not, "any" one that holds any, "off" none.
    """

    min_ratio: float = 0.25
    enough_chars: int = 20
    max_ratio: float = 4.0
    roomy_chars: int = 300
    language: str = "en"
    max_repetition: float = 0.5
    pii: Literal["added", "any", "off"] = "added"
    banned_openings: tuple[str, ...] = BANNED_OPENINGS

    def __post_init__(self) -> None:
        if not 0 <= self.min_ratio < self.max_ratio:
            raise ValueError(f"length ratios need 0 <= min_ratio < max_ratio, got {self.min_ratio} and {self.max_ratio}")
        if not 0 < self.max_repetition <= 1:
            raise ValueError(f"max_repetition is {self.max_repetition}; it is a share above 0 and up to 1")

    def refusal(self, raw: str, rewrite: str) -> str | None:
        """Why this rewrite may not replace `raw`: the name of the first guard it fails, or None."""
        checks = {
            "empty": not any(c.isalnum() for c in rewrite),
            "leftover": bool(_LEFTOVER.search(rewrite)),
            "banned_opening": _opening(rewrite).startswith(self.banned_openings),
            "repetition": repetition(rewrite) >= self.max_repetition,
            "too_short": len(rewrite) < min(self.min_ratio * len(raw.strip()), self.enough_chars),
            "too_long": len(rewrite) > max(self.max_ratio * len(raw.strip()), self.roomy_chars),
            "language": self._changes_language(raw, rewrite),
            "pii": self.pii != "off" and any(added_pii(raw if self.pii == "added" else "", rewrite)),
        }
        return next((name for name, failed in checks.items() if failed), None)

    def _changes_language(self, raw: str, rewrite: str) -> bool:
        if self.language == "any":
            return False
        new, old = guess_language(rewrite), guess_language(raw)
        if new is None or new == old or new == self.language:
            return False
        if old is None:
            return script(rewrite) != (script(raw) or "latin")
        return True


def unchanged(raw: str, rewrite: str) -> bool:
    """Whether the two differ in nothing but white space."""
    return raw.split() == rewrite.split()


def _opening(text: str) -> str:
    return " ".join(text.lstrip(" \n\t\"'*([").casefold()[:200].replace("\u2019", "'").split())
