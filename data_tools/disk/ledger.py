"""Results by the hash of what they depend on, append-only on disk: work that was done once is never done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .journal import Entry, Journal, line_at, read_lines


class Ledger:
    """A journal whose rows are found by key: 16 hex digits, see `key_of`. Use it in a `with` block.

    Opening drops a torn tail. Of two entries under one key the later counts. Only keys and places are held in memory (about
    150 bytes an entry); entries are read when asked for, fastest in the order in which they were added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path)
        self._places: dict[bytes, tuple[int, int]] = {}
        for line in read_lines(path):
            self._index(line.ids, line.at)
        self._file = path.open("rb")
        self._held: tuple[int, list[Entry]] = (-1, [])

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def __getitem__(self, key: str) -> Entry:
        """The entry under `key`. Raises KeyError."""
        at, number = self._places[bytes.fromhex(key)]
        if self._held[0] != at:
            self._held = (at, line_at(self._file, at).entries())
        return self._held[1][number]

    def add(self, keys: Sequence[str], entries: Sequence[Entry]) -> None:
        """Commit a block of entries. Raises OSError (disk full and the like); nothing of the block is kept then."""
        if not keys:
            return
        ids = b"".join(map(bytes.fromhex, keys))
        at = self._journal.size
        self._journal.append(entries, ids)
        self._index(ids, at)

    def _index(self, ids: bytes, at: int) -> None:
        self._places |= {ids[8 * i : 8 * i + 8]: (at, i) for i in range(len(ids) // 8)}

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._journal.close()


def key_of(*parts: Any) -> str:
    """16 hex digits that stand for JSON values; equal values give equal keys whatever the order of their fields.

    64 bits: among a million keys two agree with a probability of 3e-8.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
