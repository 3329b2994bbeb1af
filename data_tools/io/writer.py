"""Writing a shard under a temporary name and giving it its final name only when it is whole."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar

from ..disk.durable import put_in_place, remove
from ..records import Sample
from .paths import SourceError, is_remote, local


class Writer(ABC):
    """Context manager of one output shard: a clean exit finishes, syncs and renames it, an exception leaves nothing behind.

    The temporary name is `.NAME.tmp` beside the target, so that a rerun after a kill overwrites it.
    """

    format: ClassVar[str]

    def __init__(self, path: str | Path) -> None:
        if is_remote(str(path)):
            raise SourceError(f"Cannot write to {path}: its store has no atomic rename. Write to a local folder and copy the result.")
        self.path = Path(local(str(path)))
        self.temporary = self.path.with_name(f".{self.path.name}.tmp")

    @abstractmethod
    def add(self, sample: Sample) -> None: ...

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    @abstractmethod
    def release(self) -> None: ...

    def __enter__(self) -> Writer:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove(self.temporary)
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
        except BaseException:
            self._discard()
            raise
        if kind is None:
            put_in_place(self.temporary, self.path)
        else:
            self._discard()

    def _discard(self) -> None:
        self.release()
        remove(self.temporary)


class FileWriter(Writer):
    """A writer of one file; subclasses write to `self.file`."""

    file: IO[bytes]

    def begin(self) -> None:
        self.file = self.temporary.open("wb")

    def finish(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def release(self) -> None:
        with suppress(OSError):  # a full disk fails again when the buffer is flushed; the file goes away anyway
            self.file.close()
