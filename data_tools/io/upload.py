"""A finished folder as objects of a store (`s3://`, `gs://`, `hf://`, ...): each object appears whole, a marker is the last of them.

Only stores that make an object visible whole or not at all are written to; a file system behind a URL has no such promise.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .manifest import NAME, read_manifest
from .paths import SourceError, filesystem, is_remote

MARKER = "mmalign-upload.json"
WHOLE = ("s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az", "memory")  # stores whose put shows an object whole or not at all
BLOCK = 1 << 20


def check_store(url: str) -> None:
    """SourceError for a store to which a finished output cannot be brought object by object, or whose package is missing."""
    scheme = url.split("://")[0].lower()
    if scheme not in WHOLE:
        raise SourceError(
            f"Cannot write to {url}: {scheme}:// does not promise that a file appears whole. Stores that do: {', '.join(WHOLE)}. "
            "Write to a local folder and copy the result."
        )
    filesystem(url)


def upload(folder: Path, url: str, run: str, *, overwrite: bool = False, check: Callable[[], None] = lambda: None) -> int:
    """Put every visible file of a folder below `url`, the marker last; how many were put.

    What an earlier try of the same `run` has put stays. Raises SourceError where the place holds objects of something else; with
    `overwrite` those of another run are removed first. check: asked before every object, may raise to stop.
    """
    fs, base = filesystem(url)
    base = base.rstrip("/")
    files = _files(folder)
    known = _marker(fs, f"{base}/{MARKER}")
    if known.get("run") != run:
        _clear(fs, url, base, known, overwrite)
        known = {}
    if known.get("complete") and known["files"] == files:
        return 0
    same = {name for name in files if known.get("files", {}).get(name) == files[name]}
    if known.get("complete"):
        _mark(fs, base, {**known, "complete": False})
    _remove(fs, base, [name for name in known.get("files", ()) if name not in same])  # so that what is there is what the marker tells
    _mark(fs, base, {"run": run, "complete": False, "files": files})
    fresh = 0
    for name, (size, _) in files.items():
        check()
        if name not in same or not fs.exists(f"{base}/{name}") or fs.size(f"{base}/{name}") != size:
            _put(fs, folder, name, f"{base}/{name}")
            fresh += 1
    _mark(fs, base, {"run": run, "complete": True, "files": files})
    return fresh


def _files(folder: Path) -> dict[str, list[Any]]:
    """Size and sha256 of every visible file, by its name from the folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    visible = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    return {name: [len(_content(folder, name)), _sha(folder, name)] if name == NAME else _told(folder / name) for name in visible}


def _told(path: Path) -> list[Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return [path.stat().st_size, digest.hexdigest()]


def _sha(folder: Path, name: str) -> str:
    return hashlib.sha256(_content(folder, name)).hexdigest()


def _content(folder: Path, name: str) -> bytes:
    """The manifest, whose relative places mean nothing in a store, with whole ones."""
    body = read_manifest(str(folder))
    roots = body.get("image_roots", {})
    body |= {"image_roots": {shard: _whole(folder, root) for shard, root in roots.items()}} if roots else {}
    body |= {"image_root": _whole(folder, body["image_root"])} if "image_root" in body else {}
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def _whole(folder: Path, root: str) -> str:
    return root if is_remote(root) else os.path.normpath(folder.absolute() / root)


def _put(fs: Any, folder: Path, name: str, target: str) -> None:
    if name == NAME:
        fs.pipe_file(target, _content(folder, name))
    else:
        fs.put_file(str(folder / name), target)


def _marker(fs: Any, path: str) -> Mapping[str, Any]:
    if not fs.exists(path):
        return {}
    try:
        found = json.loads(fs.cat_file(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _mark(fs: Any, base: str, body: Mapping[str, Any]) -> None:
    fs.pipe_file(f"{base}/{MARKER}", json.dumps(body, indent=1).encode("ascii"))


def _clear(fs: Any, url: str, base: str, known: Mapping[str, Any], overwrite: bool) -> None:
    """Make room for a run's first object, or say what is in the way."""
    there = fs.find(base) if fs.exists(base) else []
    if not there:
        return
    if not known:
        raise SourceError(f"{url} already holds {len(there)} objects that no mmalign run put there. Choose an empty place.")
    if not overwrite:
        raise SourceError(f"{url} holds the output of another run. Choose an empty place, or replace it with --overwrite.")
    _remove(fs, base, [*known["files"], MARKER])


def _remove(fs: Any, base: str, names: Sequence[str]) -> None:
    for name in names:
        if fs.exists(f"{base}/{name}"):
            fs.rm_file(f"{base}/{name}")
