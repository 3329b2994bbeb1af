"""Choices that are the keys of a room's table: `Annotated[str, Keys("data_tools/io/face.py", "FORMATS")]`, offered and checked."""

from __future__ import annotations

import ast
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import core_schema

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Keys:
    """What a field may say: the keys of `tables` of the file `room` (from the folder of our packages), and `besides` before them.

    Read from the file's text: rooms import numpy and torch, which help and completion do not wait for.
    """

    room: str
    tables: tuple[str, ...]
    besides: tuple[str, ...] = ()

    def __init__(self, room: str, *tables: str, besides: tuple[str, ...] = ()) -> None:
        for name, value in (("room", room), ("tables", tables), ("besides", besides)):
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.besides, *(name for table in self.tables for name in keys_in(ROOT / self.room, table)))

    def check(self, value: str) -> str:
        """ValueError for a name that there is not."""
        if value not in self.names:
            *some, last = map(repr, self.names)
            raise ValueError(f"should be {', '.join(some)} or {last}" if some else f"should be {last}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.names)}


def keys_of(field: Any) -> Keys | None:
    """The `Keys` of a config's field, None where its choices are no table's."""
    told = [*field.metadata, *(one for kind in typing.get_args(field.annotation) for one in getattr(kind, "__metadata__", ()))]
    return next((one for one in told if isinstance(one, Keys)), None)


@cache
def keys_in(path: Path, table: str) -> tuple[str, ...]:
    """The keys of a plain dict, or the members of a plain tuple, that a module names `table` at its top level."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == table and isinstance(node, ast.Assign | ast.AnnAssign):
            found = node.value.keys if isinstance(node.value, ast.Dict) else node.value.elts if isinstance(node.value, ast.Tuple) else []
            return tuple(ast.literal_eval(key) for key in found if key is not None)
    raise LookupError(f"{path} has no table {table}")
