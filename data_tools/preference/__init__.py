"""Reading and writing of preference pairs, one file a format; this table is the list of formats."""

from .face import FORMATS, read_pairs, write_pairs

__all__ = ["FORMATS", "read_pairs", "write_pairs"]
