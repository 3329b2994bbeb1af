"""Finds the phrases of a vocabulary in texts: synonyms, plurals, the longest phrase first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from .words import words

Entry: TypeAlias = str | Sequence[str]  # one thing: its phrase, or all phrases that mean it, the one to show first
Words: TypeAlias = tuple[str, ...]

IRREGULAR = {
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "tooth": "teeth",
    "woman": "women",
}
_PAUSE = re.compile(r"[.,;:!?()\[\]\"\n]+")  # no phrase goes across
_SIBILANT = ("s", "x", "z", "ch", "sh")


class Phrases:
    """A vocabulary. Entries that share a phrase are one thing, called by the first of its phrases.

    A phrase is found whole, in either number of its last word (English rules, a few irregular ones), in any case. Where several
    begin at one word the longest counts and its words count for no other: an entry "hot dog" keeps "hot dog" from being a dog.
    Negation is not understood: "no dog" names a dog, as in CHAIR. ValueError for an entry without words.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.names: dict[Words, str] = {}
        for entry in entries:
            self._add([entry] if isinstance(entry, str) else list(entry))
        self.forms = {form: name for phrase, name in self.names.items() for form in plurals(phrase)} | self.names
        self.longest = max(map(len, self.forms), default=0)

    def _add(self, phrases: Sequence[str]) -> None:
        keys = [tuple(words(phrase)) for phrase in phrases]
        if not keys or not all(keys):
            raise ValueError(f"an entry of a vocabulary needs words in each of its phrases, got {list(phrases)!r}")
        known = {self.names[key] for key in keys if key in self.names}
        if len(known) > 1:  # what were several things is one from here on
            first = next(name for name in self.names.values() if name in known)
            self.names = {key: first if name in known else name for key, name in self.names.items()}
            known = {first}
        self.names |= dict.fromkeys(keys, known.pop() if known else phrases[0])

    def __len__(self) -> int:
        return len(set(self.names.values()))

    def name(self, phrase: str) -> str | None:
        """What the thing that `phrase` means is called here; None for a phrase that is not in the vocabulary."""
        return self.forms.get(tuple(words(phrase)))

    def find(self, text: str) -> list[str]:
        """The names of the things that `text` mentions, in its order, one for each mention."""
        return [name for piece in _PAUSE.split(text) for name in self._in(words(piece))]

    def _in(self, said: Sequence[str]) -> Iterator[str]:
        at = 0
        while at < len(said):
            ends = range(min(len(said), at + self.longest), at, -1)
            end = next((end for end in ends if tuple(said[at:end]) in self.forms), None)
            if end is not None:
                yield self.forms[tuple(said[at:end])]
            at = at + 1 if end is None else end


def plurals(phrase: Words) -> list[Words]:
    """The phrase with its last word in the plural."""
    *before, last = phrase
    if last in IRREGULAR:
        forms = [IRREGULAR[last]]
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        forms = [f"{last[:-1]}ies"]
    elif last.endswith(("fe", "f")):
        forms = [f"{last}s", f"{last.removesuffix('e').removesuffix('f')}ves"]
    elif last.endswith("o"):
        forms = [f"{last}s", f"{last}es"]
    else:
        forms = [f"{last}es" if last.endswith(_SIBILANT) else f"{last}s"]
    return [(*before, form) for form in forms]
