"""The journal of a shard: one checksummed line a block of rows, so that a killed run knows exactly where it was.

A line is `crc32 TAB head TAB body LF`. The head is `{"row", "n", "ids"}` (first row, number of rows, 8 bytes a row of id hash
in base64) and is read without the body; the body is the list of what was decided, one entry a row. The last line
of a finished journal has `"n": 0`. Rows are known by their number in the shard, never by their id.
"""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

Entry = dict[str, Any]


class Line(NamedTuple):
    """One block as it lies on disk: rows `row .. row + n`, their id hashes, the undecoded entries, and its bytes `at .. end`."""

    row: int
    n: int
    ids: bytes
    body: bytes
    at: int = 0
    end: int = 0

    def entries(self) -> list[Entry]:
        decoded: list[Entry] = json.loads(self.body)
        return decoded


class Journal:
    """Appends blocks in order and flushes them to the disk itself at most `every` seconds apart.

    Opening cuts a torn or corrupt tail: everything from the first line whose checksum or row number is wrong is dropped
    and will be computed again. `rows` is the number of committed rows, `complete` whether the shard's end was reached.
    Raises OSError (disk full and the like) from `append`; the file is then cut back to its last whole block.
    """

    def __init__(self, path: Path, *, every: float = 0.5) -> None:
        self.path = path
        self.every = every
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.rows, self._end, self.complete = _recover(path)
        self.torn = os.fstat(self._fd).st_size - self._end
        os.ftruncate(self._fd, self._end)
        self._synced_at = time.monotonic()

    def append(self, entries: Sequence[Entry], ids: bytes) -> None:
        if len(ids) != 8 * len(entries) or not entries:
            raise ValueError(f"a block needs 8 bytes of id hash for each of its {len(entries)} rows, got {len(ids)} bytes")
        self._write(_line(self.rows, len(entries), ids, entries))
        self.rows += len(entries)

    def finish(self) -> None:
        """Mark the end of the shard; nothing may follow."""
        self._write(_line(self.rows, 0, b"", []))
        self.complete = True
        self.sync()

    @property
    def size(self) -> int:
        """Bytes of the committed lines: where the next one begins."""
        return self._end

    def sync(self) -> None:
        os.fsync(self._fd)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            os.lseek(self._fd, self._end, os.SEEK_SET)
            _write_all(self._fd, line)
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        self._end += len(line)
        if time.monotonic() - self._synced_at >= self.every:
            self.sync()


def read_lines(path: Path) -> Iterator[Line]:
    """Blocks of a journal in order, up to the first one that is torn or corrupt; the end line (n = 0) is included."""
    expected = at = 0
    with path.open("rb") as file:
        for raw in file:
            line = _parse(raw, expected)
            if line is None:
                return
            yield line._replace(at=at, end=at + len(raw))
            expected, at = expected + line.n, at + len(raw)


def line_at(file: IO[bytes], at: int) -> Line:
    """The block that begins at byte `at` of a journal open for reading. Raises ValueError where none does."""
    file.seek(at)
    raw = file.readline()
    line = _parse(raw, None)
    if line is None:
        raise ValueError(f"no sound line of a journal begins at byte {at}")
    return line._replace(at=at, end=at + len(raw))


def read_entries(path: Path) -> Iterator[Entry]:
    """Every row's entry in order."""
    for line in read_lines(path):
        yield from line.entries()


class EntriesByRow:
    """A journal's entries by the number of their row, a block of them in memory: for rows in order each is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = [(line.row, line.n, line.at) for line in read_lines(path) if line.n]
        self._rows, self._at = [row for row, _, _ in lines], [at for _, _, at in lines]
        self._len = lines[-1][0] + lines[-1][1] if lines else 0
        self._block: tuple[int, list[Entry]] = (0, [])

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, row: int) -> Entry:
        """Raises IndexError for a row that the journal does not hold."""
        start, entries = self._block
        if not start <= row < start + len(entries):
            if not 0 <= row < self._len:
                raise IndexError(f"row {row} of the {self._len} in '{self.path}'")
            at = bisect_right(self._rows, row) - 1
            with self.path.open("rb") as file:
                self._block = start, entries = self._rows[at], line_at(file, self._at[at]).entries()
        return entries[row - start]


def _recover(path: Path) -> tuple[int, int, bool]:
    """Rows, length in bytes of the sound part, and whether the end line is there."""
    rows = end = 0
    for line in read_lines(path):
        rows, end = line.row + line.n, line.end
        if line.n == 0:
            return rows, end, True
    return rows, end, False


def _line(row: int, n: int, ids: bytes, entries: Sequence[Entry]) -> bytes:
    head = json.dumps({"row": row, "n": n, "ids": base64.b64encode(ids).decode("ascii")}, separators=(",", ":"))
    payload = f"{head}\t{json.dumps(entries, separators=(',', ':'))}".encode("ascii")
    return b"%08x\t%s\n" % (zlib.crc32(payload), payload)


def _parse(raw: bytes, expected_row: int | None) -> Line | None:
    checksum, _, payload = raw.partition(b"\t")
    if not raw.endswith(b"\n") or len(checksum) != 8 or b"%08x" % zlib.crc32(payload[:-1]) != checksum:
        return None
    head_text, _, body = payload[:-1].partition(b"\t")
    head = json.loads(head_text)
    if expected_row is not None and head["row"] != expected_row:
        return None
    return Line(head["row"], head["n"], base64.b64decode(head["ids"]), body)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
