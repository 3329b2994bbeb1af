"""What a caption is like, told without a model: length, language, repetition, noise, and whether it is boilerplate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property

from ..records import Sample
from ..text import guess_language, words
from ..text.repetition import repeated
from .base import Need, Signals, Value, narrowed
from .boilerplate import boilerplate

PLAIN = frozenset(" .,;:!?'\"()-–—’‘“”/&%\n\t")  # signs that running text has


class Caption:
    """A caption and what several signals need of it, worked out once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        return words(self.text)

    def noise(self) -> float:
        """Share of characters that are no letters, digits or signs of running text; 0 of an empty caption."""
        odd = sum(n for c, n in Counter(self.text).items() if not (c.isalnum() or c in PLAIN))
        return round(odd / max(1, len(self.text)), 4)

    def commonest(self) -> float:
        """Share of the commonest word; 0 without words."""
        return round(Counter(self.words).most_common(1)[0][1] / len(self.words), 4) if self.words else 0.0

    def capitals(self) -> float:
        """Share of upper case among letters that have a case; 0 without such."""
        upper, lower = sum(map(str.isupper, self.text)), sum(map(str.islower, self.text))
        return round(upper / max(1, upper + lower), 4)


SIGNALS: dict[str, tuple[type, Callable[[Caption], Value]]] = {
    "text.chars": (int, lambda caption: len(caption.text)),
    "text.words": (int, lambda caption: len(caption.words)),
    "text.language": (str, lambda caption: guess_language(caption.text)),
    "text.repetition": (float, lambda caption: round(repeated(caption.words), 4)),
    "text.commonest": (float, Caption.commonest),
    "text.noise": (float, Caption.noise),
    "text.capitals": (float, Caption.capitals),
    "text.boilerplate": (str, lambda caption: boilerplate(caption.text, caption.words)),
}


class TextSignals:
    """Of the caption: `text.chars`, `text.words` (as `data_tools.text.words`), `text.language` (ISO 639-1, None where none can be told).

    `text.repetition`: share of three-word windows seen before; `text.commonest`: share of the commonest word; `text.noise`: share of
    characters that running text does not have; `text.capitals`: share of upper case; `text.boilerplate`: "file_name", "url",
    "placeholder" or "seo" where the caption is that instead of a description (see `boilerplate`), else None. How often a caption occurs is
    `exact.caption_copies`.
    """

    kinds: dict[str, type] = {name: kind for name, (kind, _) in SIGNALS.items()}
    needs: frozenset[Need] = frozenset({"caption"})

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = narrowed(SIGNALS, names)
        self._tell = [(name, SIGNALS[name][1]) for name in self.names]

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        captions = [Caption(sample.caption or "") for sample in samples]
        return [{name: tell(caption) for name, tell in self._tell} for caption in captions]
