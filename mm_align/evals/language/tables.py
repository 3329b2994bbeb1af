"""The packaged word lists and weights of this room, read when they are first needed."""

from __future__ import annotations

import gzip
from pathlib import Path

DATA = Path(__file__).parent / "data"


def lines(name: str) -> list[str]:
    """The lines of `data/NAME.gz`."""
    return text(name).split("\n")


def text(name: str) -> str:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes()).decode("utf-8")
