"""`mmalign.json`: what an output folder says about itself so that it can be read again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..disk.durable import write_atomic
from .paths import SourceError, exists, is_remote, join, local, open_bytes, parent
from .shard import Shard

NAME = "mmalign.json"
SPLITS = "dataset_dict.json"  # of `datasets`: the splits of a saved DatasetDict


def write_manifest(out_dir: str | Path, image_root: str | Mapping[str, str], format: str) -> None:
    """Record the format of the shards in `out_dir` and the folder that their relative image paths start from.

    `image_root` is one folder for all shards or a mapping {shard name: folder}; it is stored relative to `out_dir`.
    Saved datasets named by a mapping also get `dataset_dict.json`, by which `datasets.load_from_disk(out_dir)` gives a DatasetDict.
    Written under a temporary name and renamed; the same arguments give the same bytes.
    """
    out = Path(out_dir)
    one = isinstance(image_root, str)
    roots: Any = _relative(image_root, out) if one else {k: _relative(v, out) for k, v in sorted(image_root.items())}  # type: ignore[arg-type, union-attr]
    body = {"format": format, "image_root" if one else "image_roots": roots}
    if format == "hf" and not one:
        _put(out / SPLITS, {"splits": [name for name in roots if (out / name / "state.json").exists()]})
    _put(out / NAME, body)


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a folder, {} when it has none. Raises SourceError when it is no JSON object."""
    path = join(folder, NAME)
    if not exists(path):
        return {}
    with open_bytes(path) as file:
        try:
            found = json.loads(file.read().decode("utf-8"))
        except ValueError as error:
            raise SourceError(f"{path} is not JSON ({error}); remove it or write it again.") from error
    if not isinstance(found, dict):
        raise SourceError(f"{path} should hold a JSON object, found {type(found).__name__}; remove it or write it again.")
    return found


def image_root_of(shard: Shard, image_root: str | None = None) -> str:
    """The folder that relative image paths of a shard start from: as asked, as the manifest beside it says, or its own folder."""
    if image_root is not None:
        return str(image_root)
    if shard.format == "hf" and shard.path.startswith("datasets:"):
        return ""
    folder = shard.path if shard.format == "folder" else parent(shard.path)
    found = read_manifest(parent(shard.path))
    root = found.get("image_roots", {}).get(shard.name, found.get("image_root"))
    if not isinstance(root, str) or shard.format == "folder":
        return folder
    return os.path.normpath(join(parent(shard.path), root)) if not is_remote(root) else root


def _put(path: Path, body: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(body, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")


def _relative(root: str, out: Path) -> str:
    if is_remote(root):
        return root
    try:
        return Path(os.path.relpath(local(root), out)).as_posix()
    except ValueError:  # another drive of Windows
        return str(Path(root).resolve())
