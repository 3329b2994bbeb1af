"""A folder that one command makes as a whole: done already, made anew, refused, or put in place when it is finished."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..config import UserError


class OwnFolder(NamedTuple):
    """`mark`: the JSON file in it, written last, whose "settings" say what it was made with. `verb`: the command."""

    path: Path
    verb: str
    mark: str

    def holds(self, settings: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether it was made with these very settings.

        Raises UserError for a file, for a folder that another made, and for other settings unless `overwrite`.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path} is a file; name a folder")
        if not self.path.exists() or not any(self.path.iterdir()):
            return False
        earlier = self._settings()
        if earlier is None:
            raise UserError(f"--out {self.path} is not empty and was not made by `mmalign {self.verb}`; name another folder")
        if overwrite:
            return False
        changed = [f"{key}: was {earlier.get(key)!r}, now {value!r}" for key, value in settings.items() if earlier.get(key) != value]
        if changed:
            raise UserError(f"--out {self.path} was made with other settings ({', '.join(changed)}); --overwrite replaces it")
        return True

    def _settings(self) -> dict[str, Any] | None:
        try:
            told = self.summary()
        except (OSError, ValueError):
            return None
        return told["settings"] if isinstance(told, dict) and isinstance(told.get("settings"), dict) else None

    def summary(self) -> dict[str, Any]:
        """What the mark holds."""
        told: dict[str, Any] = json.loads((self.path / self.mark).read_text(encoding="utf-8"))
        return told

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """An empty folder beside it to write to, which takes its place, synced, when the block ends without an exception."""
        from data_tools.disk.durable import put_in_place, remove, sync

        temporary = self.path.with_name(f".{self.path.name}.tmp")
        remove(temporary)
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {temporary}: {error.strerror}") from error
        try:
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    sync(path)
            put_in_place(temporary, self.path)
        finally:
            remove(temporary)

    def finish(self, folder: Path, summary: Mapping[str, Any]) -> None:
        """Write the mark into `folder`."""
        (folder / self.mark).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
