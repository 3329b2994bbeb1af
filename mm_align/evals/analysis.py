"""Tokens, lemmas and tags of a short text: a table that the user gives, spaCy, or our own tagger and lemmatiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .answers import parse_json, read_text
from .language import lemma, pos_tag, word_tokenize

EXPECTED = 'expected {"a dog": [["a", "a", "DT"], ["dog", "dog", "NN"]], ...}'


class Token(NamedTuple):
    """A word of a text, its lemma and its Penn Treebank tag."""

    text: str
    lemma: str
    tag: str


class Analyser(NamedTuple):
    """of: the tokens of a text. told: a flag that says what was used in place of spaCy."""

    of: Callable[[str], Sequence[Token]]
    told: tuple[str, ...] = ()


def analyser_of(given: str | None, model: str) -> Analyser:
    """The table in the file `given`; without it the spaCy `model` where it is installed, else our own tagger, which the flag says.

    ValueError for a file that holds no table, OSError for none.
    """
    if given is not None:
        return Analyser(read_table(Path(given)))
    if (found := _spacy(model)) is not None:
        return Analyser(found)
    told = f"objects are analysed by NLTK's tagger and WordNet's lemmas, for no spaCy model {model} is installed; upstream uses it"
    return Analyser(tagged, (told,))


def read_table(path: Path) -> Callable[[str], Sequence[Token]]:
    """A JSON object of [token, lemma, tag] lists by text. Asked for another text the table raises ValueError."""
    content = parse_json(read_text(path), path)
    try:
        table = {text: [Token(*map(str, token)) for token in tokens] for text, tokens in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no table of analyses; {EXPECTED} ({error})") from error

    def of(text: str) -> Sequence[Token]:
        if text not in table:
            raise ValueError(f"{path.name} has no analysis of {text!r}; {EXPECTED}")
        return table[text]

    return of


def tagged(text: str) -> Sequence[Token]:
    """Our own: nouns get the lemma of a noun, verbs that of a verb, other words stay as they are."""
    return [Token(word, _lemma(word, tag), tag) for word, tag in pos_tag(word_tokenize(text))]


def _lemma(word: str, tag: str) -> str:
    return lemma(word.lower(), tag[0].lower()) if tag[0] in "NV" else word.lower()


def _spacy(model: str) -> Callable[[str], Sequence[Token]] | None:
    try:
        import spacy

        language = spacy.load(model)
    except (ImportError, OSError):
        return None
    return lambda text: [Token(token.text, token.lemma_, token.tag_) for token in language(text)]
