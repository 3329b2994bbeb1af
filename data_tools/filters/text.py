"""What a caption is like, told without a model: its length and language."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..records import Sample
from ..text import guess_language, words
from .base import Need, Signals, Value, narrowed

SIGNALS: dict[str, Callable[[str], Value]] = {
    "text.chars": len,
    "text.words": lambda text: len(words(text)),
    "text.language": guess_language,
}


class TextSignals:
    """Of the caption: `text.chars`, `text.words` (as `data_tools.text.words`), `text.language` (ISO 639-1, None where none can be told)."""

    kinds: dict[str, type] = {"text.chars": int, "text.words": int, "text.language": str}
    needs: frozenset[Need] = frozenset({"caption"})

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = narrowed(SIGNALS, names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        return [{name: SIGNALS[name](sample.caption or "") for name in self.names} for sample in samples]
