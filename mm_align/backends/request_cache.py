"""Answers of endpoints on disk, found again by all that was sent: a request that was paid for once is not sent twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

WAIT = 30.0  # seconds for another process's write
TABLE = "create table if not exists answers (key blob primary key, answer text not null) without rowid"


class RequestCache:
    """A SQLite file that threads and processes may share (on a disk of this machine; network file systems lock unreliably).

    Holds digests of requests and the answers, no request and no key. A file that cannot be used is said once and done without.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        with self._said():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            self._file.execute(TABLE)

    def get(self, key: bytes) -> Any:
        """The answer, or None."""
        row = self._do("select answer from answers where key = ?", (key,))
        try:
            return json.loads(row[0][0]) if row else None
        except (ValueError, TypeError):
            return None

    def put(self, key: bytes, answer: Any) -> None:
        self._do("insert or replace into answers values (?, ?)", (key, json.dumps(answer)))

    def close(self) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._file is not None:
                self._file.close()
            self._file = None

    @staticmethod
    def delete(path: Path) -> None:
        """The file, if there is one."""
        for suffix in ("", "-journal"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)

    def _do(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock, self._said():
            if self._file is not None:
                return self._file.execute(statement, values).fetchall()
        return []

    @contextlib.contextmanager
    def _said(self) -> Any:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            log.warning("the request cache %s cannot be used (%s); going on without it", self.path, error)
            self._file = None


def request_key(url: str, path: str, body: Mapping[str, Any]) -> bytes:
    """A digest of where a request goes and all that it says."""
    return hashlib.blake2b(json.dumps([url, path, body], sort_keys=True).encode(), digest_size=16).digest()
