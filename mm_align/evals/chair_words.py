"""CHAIR's two families of words: pattern's singulars, and WordNet's lemmas by part of speech; the second also where only mentions count."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

from .language import lemma, pos_tag, reader, singularize, tags_at, word_tokenize

POS = {"J": "a", "V": "v", "N": "n", "R": "r"}  # of tags by their first letter; of all others a noun's
KEPT = 1 << 17

Words = Callable[[str], list[str]]

_singulars = reader(singularize)


def pattern_words(caption: str) -> list[str]:
    """LisaAnne's words: lower-cased tokens, each made singular by pattern."""
    return _singulars(caption.lower())


def wordnet_words(caption: str) -> list[str]:
    """OPERA's words: lower-cased tokens, each the WordNet lemma of its part of speech."""
    return [_lemma(word, tag) for word, tag in pos_tag(word_tokenize(caption.lower()))]


def wordnet_mentions(looked_for: Collection[str]) -> Words:
    """A function like `wordnet_words` whose words are right where one of them is among `looked_for`, and any other ones elsewhere.

    A word is tagged only if its lemmas differ and one of them is looked for, which two words of a hundred are.
    """

    @lru_cache(KEPT)
    def settled(word: str) -> str | None:
        """The word whatever its tag, or None."""
        noun, *others = (lemma(word, pos) for pos in ("n", "v", "a", "r"))
        if all(other == noun for other in others) or not any(one in looked_for for one in (noun, *others)):
            return noun
        return None

    def words(caption: str) -> list[str]:
        tokens = word_tokenize(caption.lower())
        found = list(map(settled, tokens))
        if None in found:
            open_places = [at for at, word in enumerate(found) if word is None]
            tags = tags_at(tokens, open_places)
            for at in open_places:
                found[at] = _lemma(tokens[at], tags[at])
        return found  # type: ignore[return-value]  # no place is open any more

    return words


def _lemma(word: str, tag: str) -> str:
    return lemma(word, POS.get(tag[0], "n"))
