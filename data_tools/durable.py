"""Files and folders that appear under their name whole or not at all, and stay after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def put_in_place(temporary: Path, final: Path) -> None:
    """Rename atomically and sync the folder; an older folder of that name is moved aside first."""
    if final.is_dir():
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
