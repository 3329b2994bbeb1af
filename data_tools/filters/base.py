"""What a filter is: something that tells named values of every row of a block, and decides nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from ..records import Sample

Value = float | int | str | bool | None
Signals = Mapping[str, Value]
Need = Literal["pixels", "size", "bytes", "caption"]
SIDE = 512  # pixels of the longer side at which filters see a picture, where they do not say what they need


class Filter(Protocol):
    """`names`: what it tells, each "room.signal" with the room its file. `needs`: what a sample must bring: "pixels" (decoded pictures),
    "size" (only `Image.size`, told by a picture's header), "bytes" (the encoded ones), "caption". Where pixels are needed, an attribute
    `side` may say how large: the longer side in pixels that is enough, 0 for pictures as they are; `SIDE` where it says nothing. `grey`:
    whether pictures of mode L will do as well; `loose`: whether sides of up to twice `side` will, which the filter then shrinks itself.

    One mapping a sample, in order, with every name; a value that cannot be told is None, and one bad row never raises.
    A class of the table is made with the names that are wanted, () for all, so that what nobody asked for is not worked out.
    An attribute `kinds` may give the types of values that are not floats ({"text.words": int}); columns are typed by it. `hidden` names are
    for a comparison of rows (`Comparing`) and stay out of the output. A class with names that cost much may have them `on_request`, told
    only where they are named, and then says which are `usual`.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def needs(self) -> frozenset[Need]: ...
    def __call__(self, samples: Sequence[Sample]) -> list[Signals]: ...


@runtime_checkable
class Comparing(Protocol):
    """A filter that also tells what only all rows together can tell, such as which row another one repeats.

    `across` names that. `pack` makes of what the filter told of n rows an array [n, ...] that is kept, as compact as it can be; a row that
    tells nothing packs to something that `compare` knows. `compare` gets the arrays of all rows that take part, joined in the order of
    shards and rows [N, ...], and gives an array [N] for each name of `across`: bool, int or float values, or, for names in `references`,
    int64 numbers of rows in that order, -1 for none. Rows that a rule over their own signals drops, and rows that cannot be read, take no
    part: what leaves stands for no other.
    """

    @property
    def across(self) -> tuple[str, ...]: ...
    @property
    def references(self) -> frozenset[str]: ...
    def pack(self, rows: Sequence[Signals]) -> np.ndarray: ...
    def compare(self, packed: np.ndarray) -> Mapping[str, np.ndarray]: ...


def kinds_of(filters: Iterable[Filter]) -> dict[str, type]:
    """The type of every signal of these filters, in their order; float where a filter does not say. Hidden ones are not in it."""
    kinds: dict[str, type] = {}
    for one in filters:
        names = [*one.names, *(one.across if isinstance(one, Comparing) else ())]
        kinds |= {name: getattr(one, "kinds", {}).get(name, float) for name in names if name not in getattr(one, "hidden", ())}
    return kinds


def side_of(filters: Iterable[Filter]) -> int | None:
    """The longer side in pixels that is enough for all of them; None where one needs pictures as they are."""
    sides = [getattr(one, "side", SIDE) for one in filters if "pixels" in one.needs]
    return None if 0 in sides else max(sides, default=SIDE)


def grey_of(filters: Iterable[Filter]) -> bool:
    """Whether none of them looks at colours."""
    return all(getattr(one, "grey", False) for one in filters if "pixels" in one.needs)


def loose_of(filters: Iterable[Filter]) -> bool:
    """Whether pictures of up to twice `side_of` will do for all of them."""
    return all(getattr(one, "loose", False) for one in filters if "pixels" in one.needs)


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
