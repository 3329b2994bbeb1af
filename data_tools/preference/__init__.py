"""Reading and writing of preference pairs, one file a format; this table is the list of formats."""

from .face import FORMATS, SUFFIXES, read_pairs, write_pairs

__all__ = ["FORMATS", "SUFFIXES", "read_pairs", "write_pairs"]
