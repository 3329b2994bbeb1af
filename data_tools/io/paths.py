"""Opening and listing files, local ones by the standard library and `scheme://` ones by fsspec."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

REMOTE = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class SourceError(ValueError):
    """A source or target that cannot be used as given; the message says what was found and what to do."""


def is_remote(path: str) -> bool:
    return bool(REMOTE.match(path)) and not path.lower().startswith("file://")


def local(path: str) -> str:
    """`file:///a/b` as `/a/b`; every other path as it is."""
    return path[7:] if path.lower().startswith("file://") else path


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a remote path and the path inside it. Raises SourceError when its package is missing."""
    import fsspec

    try:
        fs, inner = fsspec.core.url_to_fs(path)
        return fs, str(inner)
    except (ImportError, ValueError) as error:
        raise SourceError(
            f"Cannot open {path}: {error}. Install the fsspec package of this store, or copy the data to a local folder."
        ) from error


def open_bytes(path: str) -> IO[bytes]:
    """Open for reading, seekable. Raises OSError; a FIFO or device is refused (opening one could wait for ever)."""
    if is_remote(path):
        fs, inner = filesystem(path)
        return cast(IO[bytes], fs.open(inner, "rb"))
    name = local(path)
    if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - the row path of every reader: a Path object costs more than the call
        raise OSError(f"{name} is not a regular file")
    return open(name, "rb")  # noqa: PTH123 - as above; the caller closes


def exists(path: str) -> bool:
    if is_remote(path):
        fs, inner = filesystem(path)
        return bool(fs.exists(inner))
    return Path(local(path)).exists()


def is_dir(path: str) -> bool:
    if is_remote(path):
        fs, inner = filesystem(path)
        return bool(fs.isdir(inner))
    return Path(local(path)).is_dir()


def join(root: str, name: str) -> str:
    """`name` under `root`; an absolute or remote `name` stands for itself."""
    if not root or REMOTE.match(name):
        return name
    if is_remote(root):
        return name if name.startswith("/") else f"{root.rstrip('/')}/{name}"
    return os.path.join(local(root), name)  # noqa: PTH118 - once a row: Path costs ten times as much


def parent(path: str) -> str:
    if is_remote(path):
        return path.rsplit("/", 1)[0]
    return os.path.dirname(local(path)) or "."  # noqa: PTH120 - symmetric with `join`


def files_below(root: str) -> list[str]:
    """Paths of all files below `root`, relative with '/', sorted; hidden files and folders are left out."""
    if is_remote(root):
        fs, inner = filesystem(root)
        base = inner.rstrip("/") + "/"
        names = (f[len(base) :] if f.startswith(base) else f for f in fs.find(inner))
        return sorted(n for n in names if not any(map(_hidden, n.split("/"))))
    return sorted(_walked(Path(local(root))))


def _walked(top: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not _hidden(name)]
        below = "" if folder == str(top) else Path(folder).relative_to(top).as_posix() + "/"
        yield from (below + name for name in names if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))
