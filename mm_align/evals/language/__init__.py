"""English words as NLTK and pattern see them: tokens, parts of speech, lemmas, singulars, each equal to its model and without it."""

from .singular import singularize
from .tags import pos_tag, tags_at
from .tokens import reader, word_tokenize
from .wordnet import lemma

__all__ = ["lemma", "pos_tag", "reader", "singularize", "tags_at", "word_tokenize"]
