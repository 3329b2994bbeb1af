"""Question files: the user's own, checked against the published one, or the copy that is packaged where its licence allows it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGED = Path(__file__).parent / "data"


class Published(NamedTuple):
    """One file of a benchmark: its name, the sha256 of the published bytes, and where it comes from under which licence, in words."""

    name: str
    sha256: str
    origin: str


def find(data: str | None, names: Sequence[str]) -> Path | None:
    """`data` if it is a file; the first of `names` in the folder `data`, or anywhere under it; None for none. OSError for no such path."""
    if data is None:
        return None
    root = Path(data)
    if not root.exists():
        raise FileNotFoundError(f"there is no {data}")
    if root.is_file():
        return root
    for name in names:
        for path in (root / name, *sorted(root.rglob(Path(name).name))):
            if path.is_file():
                return path
    return None


def published(benchmark: str, file: Published, data: str | None, flags: list[str], names: Sequence[str] = ()) -> bytes:
    """The bytes of `file`: of `data` (a file, or a folder with it under its name or one of `names`), else of the packaged copy.

    A file that differs from the published one is used and flagged. ValueError that says where to get it, if there is none.
    """
    path = find(data, (file.name, *names))
    if path is None:
        return packaged(benchmark, file, data)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        flags.append(f"{path.name} differs from the published {file.name} (sha256 {file.sha256[:12]}...)")
    return content


def packaged(benchmark: str, file: Published, data: str | None = None) -> bytes:
    """The packaged copy of `file`, `data/BENCHMARK/NAME.gz`. ValueError that says where to get it, where it may not be packaged."""
    path = PACKAGED / benchmark / f"{file.name}.gz"
    if not path.is_file():
        place = f"{data} holds no {file.name}" if data else f"{benchmark} needs {file.name}, which is not packaged"
        raise ValueError(f"{place}; it comes from {file.origin}: give its folder as `data`")
    return gzip.decompress(path.read_bytes())
