"""What a filter is: something that tells named values of every row of a block, and decides nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from ..records import Sample

Value = float | int | str | bool | None
Signals = Mapping[str, Value]
Need = Literal["pixels", "bytes", "caption"]


class Filter(Protocol):
    """`names`: what it tells, each "room.signal" with the room its file. `needs`: what a sample must bring: "pixels" (decoded pictures),
    "bytes" (the encoded ones), "caption".

    One mapping a sample, in order, with every name; a value that cannot be told is None, and one bad row never raises.
    A class of the table is made with the names that are wanted, () for all, so that what nobody asked for is not worked out.
    An attribute `kinds` may give the types of values that are not floats ({"text.words": int}); columns are typed by it.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def needs(self) -> frozenset[Need]: ...
    def __call__(self, samples: Sequence[Sample]) -> list[Signals]: ...


def kinds_of(filters: Iterable[Filter]) -> dict[str, type]:
    """The type of every signal of these filters, in their order; float where a filter does not say."""
    return {name: getattr(one, "kinds", {}).get(name, float) for one in filters for name in one.names}


def narrowed(known: Iterable[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The known names that are wanted, in their own order; all where none is named. ValueError names what is unknown and the nearest."""
    known = tuple(known)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ValueError(
                f"no signal is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else f": there are {', '.join(known)}")
            )
    return tuple(name for name in known if not wanted or name in wanted)
