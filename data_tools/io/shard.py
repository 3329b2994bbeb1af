"""The noun `Shard`: one readable piece of a source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """`path` as given to the reader, `format` a key of FORMATS, `name` unique within its source and safe as a file name."""

    path: str
    format: str
    name: str
