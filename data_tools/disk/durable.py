"""Files and folders that appear under their name whole or not at all, and stay after a power cut."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def put_in_place(temporary: Path, final: Path) -> None:
    """Rename atomically and sync the folder; for a folder, an older one of that name is moved aside first. IsADirectoryError for a file
    that would take a folder's place."""
    if final.is_dir() and temporary.is_dir():
        aside = final.with_name(f".{final.name}.old")
        remove(aside)
        final.rename(aside)
        temporary.rename(final)
        remove(aside)
    else:
        temporary.replace(final)
    sync(final.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_disk_full(error: OSError) -> bool:
    return error.errno in DISK_FULL


def sync(path: Path) -> None:
    """Flush a file or folder to disk. Systems that cannot open a folder (Windows) skip folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any) -> bytes:
    """JSON of a state file: readable, and safe for text with lone surrogates."""
    return json.dumps(value, indent=1).encode("ascii") + b"\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object a state file holds; None where there is no such file or it holds something else."""
    try:
        loaded = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return loaded if isinstance(loaded, dict) else None


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name beside `path`, fsync, rename, fsync the directory. IsADirectoryError where a folder has that name."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(path))
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    put_in_place(temporary, path)
