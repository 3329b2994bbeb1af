"""Cut a text into words, and make any string safe to encode."""

from __future__ import annotations

import re

# Scripts written without spaces count one word a character.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['\u2019][^\W{_UNSPACED}]+)*")


def words(text: str) -> list[str]:
    """The words of `text`, casefolded, without punctuation; each Han, kana or Thai character is a word of its own."""
    return _WORD.findall(text.casefold())


def encodable(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that UTF-8 can hold it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
