"""A JSON file that is one array of rows (as LLaVA's data comes), read element by element in bounded memory."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from .refusals import RowError

CHUNK = 1 << 18  # characters
MAX_ELEMENT = 1 << 28
BETWEEN = re.compile(r"[\s,]*")


def is_array(file: IO[bytes]) -> bool:
    """Whether the file starts with `[`; the file is rewound."""
    start = file.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    file.seek(0)
    return start.startswith(b"[")


def elements(file: IO[bytes]) -> Iterator[Any]:
    """The array's elements. After a broken one nothing can be found again: a RowError is raised there."""
    text = _Text(file)
    text.skip(BETWEEN)
    text.at += 1  # the opening bracket
    while True:
        text.skip(BETWEEN)
        if text.starts_with("]"):
            return
        yield text.element()


class _Text:
    """A window of decoded text that grows while an element does not fit."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        self.window, self.at, self.ended = "", 0, False
        self.decoder = json.JSONDecoder()

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Move behind what matches, over the window's end if need be."""
        while True:
            found = pattern.match(self.window, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.window) or not self._fill(CHUNK):
                return

    def starts_with(self, start: str) -> bool:
        return self.window.startswith(start, self.at)

    def element(self) -> Any:
        size = max(CHUNK, 2 * (len(self.window) - self.at))
        while True:
            try:
                value, end = self.decoder.raw_decode(self.window, self.at)
            except (ValueError, RecursionError) as error:
                size *= 2
                if isinstance(error, RecursionError) or size > MAX_ELEMENT or not self._fill(size):
                    raise RowError("bad_json", f"the array breaks here and the rest of the file is lost: {error}") from error
                continue
            if end < len(self.window) or self.ended or not self._fill(size):  # a number may go on behind the window
                self.at = end
                return value

    def _fill(self, size: int) -> bool:
        """Drop what was read, have at least `size` characters if the file does; False when it gave no more."""
        self.window, self.at = self.window[self.at :], 0
        missing = size - len(self.window)
        try:
            more = self.file.read(missing) if missing > 0 and not self.ended else ""
        except UnicodeDecodeError as error:
            raise RowError("not_utf8", f"the rest of the array is lost: {error}") from error
        self.ended = self.ended or (missing > 0 and not more)
        self.window += more
        return bool(more)
