"""Which filters somebody asks for: by room ("image") or by signal ("image.width")."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from .base import Filter


def chosen(wanted: Sequence[str], table: Mapping[str, type[Filter]]) -> list[Filter]:
    """The filters that tell what is wanted, in the table's order; all where nothing is named. ValueError for a name that nobody knows."""
    rooms = [name.partition(".")[0] for name in wanted]
    for room, name in zip(rooms, wanted, strict=True):
        if room not in table:
            near = difflib.get_close_matches(room, table, 1)
            raise ValueError(
                f"no signal is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else f": rooms are {', '.join(table)}")
            )
    return [_made(kind, room, wanted) for room, kind in table.items() if not wanted or room in rooms]


def _made(kind: type[Filter], room: str, wanted: Sequence[str]) -> Filter:
    names = [name for name in wanted if name.startswith(f"{room}.")]
    return kind(names if room not in wanted else ())  # type: ignore[call-arg]  # the protocol cannot say how a class is made
