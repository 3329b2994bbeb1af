"""Small text tools without a model: words, language guess, repetition, lenient reading of JSON objects."""

from .language import LANGUAGES, guess_language, script
from .lenient_json import LooseObject, read_objects, read_python_dict
from .repetition import repetition
from .words import encodable, words

__all__ = ["LANGUAGES", "LooseObject", "encodable", "guess_language", "read_objects", "read_python_dict", "repetition", "script", "words"]
