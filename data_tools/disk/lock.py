"""Open files as locks between processes of one machine; the system lets go of them when their holder ends, however it ends."""

from __future__ import annotations

from typing import IO


def take_lock(file: IO[bytes] | IO[str] | int, *, wait: bool = False) -> bool:
    """Whether the file (or descriptor) is locked by us now; wait: until nobody else holds it. True on systems without such locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
