"""Which filters somebody asks for: by room ("image") or by signal ("image.width")."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .base import Filter


def chosen(
    wanted: Sequence[str], table: Mapping[str, type[Filter]], options: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> list[Filter]:
    """The filters that tell what is wanted, in the table's order; all where nothing is named. ValueError for a name that nobody knows.

    options: what else a room's filter is made with, by room.
    """
    rooms = [name.partition(".")[0] for name in wanted]
    for room, name in zip(rooms, wanted, strict=True):
        if room not in table:
            near = difflib.get_close_matches(room, table, 1)
            raise ValueError(
                f"no signal is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else f": rooms are {', '.join(table)}")
            )
    return [_made(kind, room, wanted, options.get(room, {})) for room, kind in table.items() if not wanted or room in rooms]


def _made(kind: Callable[..., Filter], room: str, wanted: Sequence[str], options: Mapping[str, Any]) -> Filter:
    names = [name for name in wanted if name.startswith(f"{room}.")]
    if room in wanted:  # all of it, but for what is told on request only
        more = [name for name in names if name in getattr(kind, "on_request", ())]
        names = [*getattr(kind, "usual", ()), *more] if more else []
    return kind(names, **options)
