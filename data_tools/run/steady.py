"""A source under one's feet: a shard that cannot be opened, breaks off, or changes while a run reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..disk.durable import is_disk_full
from ..io import Shard
from ..records import Rejected, Sample, Source
from .directory import CHANGED, RunDir, RunRefused, RunStopped

UNREADABLE = "shard_unreadable"


def read_on(shard: Shard, read: Callable[[], Iterator[Sample | Rejected]], skip: int = 0) -> Iterator[Sample | Rejected]:
    """The rows that `read` gives from row `skip` on; a shard that cannot be opened is one Rejected (shard_unreadable).

    Raises RunStopped where reading fails further on: what was read is kept, and the same command goes on from there.
    """
    rows = skip
    try:
        for item in read():
            rows += 1
            yield item
    except OSError as error:
        if is_disk_full(error):
            raise
        if rows:
            raise RunStopped(
                f"'{shard.path}' cannot be read on after {rows} rows ({error}); see to it, then run the same command"
            ) from error
        yield Rejected(Source(shard.name, 0, shard.format), UNREADABLE, f"{type(error).__name__}: {error}"[:500])


@contextmanager
def steady(shard: Shard, run_dir: RunDir) -> Iterator[None]:
    """Around one pass over a shard: RunRefused where its file is not what it was when this process first looked at it.

    Nothing that was told or judged of the shard is kept then, so once the source is restored the same command goes on.
    """
    try:
        _compare(shard, run_dir)
        yield
        _compare(shard, run_dir)
    except _Changed as error:
        run_dir.forget(shard.name)
        raise RunRefused(str(error)) from None


class _Changed(Exception):
    pass


def _compare(shard: Shard, run_dir: RunDir) -> None:
    now = _state(shard.path)
    if run_dir.looks.setdefault(shard.name, now) != now:
        raise _Changed(f"'{shard.path}' changed while it was read: {CHANGED}")


def _state(path: str) -> tuple[int, ...]:
    """Size, time of the last change and number of a local file; nothing of what is none."""
    try:
        told = Path(path).stat()
    except OSError:
        return ()
    return (told.st_size, told.st_mtime_ns, told.st_ino) if Path(path).is_file() else ()
