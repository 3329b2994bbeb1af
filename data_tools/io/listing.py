"""What a source consists of: a file, a folder of shards, a folder of pictures, a saved dataset, or `datasets:NAME`."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from .face import FORMATS
from .manifest import read_manifest
from .paths import SourceError, exists, files_below, filesystem, is_dir, is_remote, join, local
from .shard import Shard

SUFFIXES = {format: ends for format, (_, ends) in FORMATS.items() if ends}
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
QUARANTINE = "quarantine/"  # of a run of ours: not part of its output
HUB = "datasets:"


def list_shards(src: str | Path, format: str | None = None) -> list[Shard]:
    """The shards of a source in a stable order; `format` decides where a folder holds several kinds.

    Raises SourceError when the path is missing, holds nothing readable, or holds several kinds of shards.
    """
    path = str(src)
    if path.startswith(HUB):
        from .hf_datasets import list_hub

        return named(list_hub(path))
    path = local(path).rstrip("/") or "/"
    if not exists(path):
        return named(_matching(path, format))
    return named(_folder(path, format) if is_dir(path) else [(path, _format_of(path, format), Path(path).name)])


def _matching(pattern: str, format: str | None) -> list[tuple[str, str, str]]:
    found = _glob(pattern) if any(c in pattern for c in "*?[") else []
    if not found:
        raise SourceError(f"No such file or folder: {pattern}. Expected a JSONL, Parquet or tar file, a folder of them, or of pictures.")
    return [(p, _format_of(p, format), Path(p).name) for p in sorted(found)]


def _glob(pattern: str) -> list[str]:
    if is_remote(pattern):
        scheme = pattern.split("://")[0]
        return [f"{scheme}://{p.lstrip('/')}" for p in filesystem(pattern)[0].glob(pattern)]
    return glob.glob(pattern)  # noqa: PTH207 - Path.glob refuses absolute patterns


def _format_of(path: str, format: str | None) -> str:
    if format in (None, "jsonl") and path.lower().endswith(".json"):
        return "jsonl"
    found = next((f for f, ends in SUFFIXES.items() if path.lower().endswith(ends)), None)
    if format is not None and (found in (None, format)):
        return format
    if found is None or format is not None:
        known = " ".join(s for ends in SUFFIXES.values() for s in ends)
        raise SourceError(f"Cannot tell how to read {path}" + (f" as {format}" if format else "") + f": known suffixes are {known} .json.")
    return found


def _folder(path: str, format: str | None) -> list[tuple[str, str, str]]:
    manifest = read_manifest(path)
    wanted = format or manifest.get("format")
    saved = [] if wanted not in (None, "hf") else _saved(path)
    if saved:
        return saved
    files = _rows_below(path)
    if wanted == "folder" and manifest:
        tops = sorted({f.split("/")[0] for f in files if "/" in f})
        return [(join(path, t), "folder", t) for t in tops]
    found = {f: [n for n in files if n.lower().endswith(ends)] for f, ends in SUFFIXES.items() if wanted in (None, f)}
    found = {f: names for f, names in found.items() if names}
    kind = _one_kind(path, found)
    if kind is not None:
        return [(join(path, n), kind, n) for n in found[kind]]
    if wanted in (None, "folder") and any(n.lower().endswith(PICTURES) for n in files):
        return [(path, "folder", Path(path).resolve().name if not is_remote(path) else path.rsplit("/", 1)[-1])]
    raise SourceError(
        f"Nothing to read in {path}: no {wanted or 'JSONL, Parquet, tar file, saved dataset'} and no picture among {len(files)} files."
    )


def _rows_below(path: str) -> list[str]:
    ours = exists(join(path, ".mmalign")) or exists(join(path, "mmalign.json"))
    return [f for f in files_below(path) if not (ours and f.startswith(QUARANTINE))]


def _one_kind(path: str, found: dict[str, list[str]]) -> str | None:
    if len(found) < 2:
        return next(iter(found), None)
    if "webdataset" in found and set(map(_stem, found.get("parquet", ()))) <= set(map(_stem, found["webdataset"])) and "jsonl" not in found:
        return "webdataset"  # img2dataset leaves a table of the same name beside every tar
    kinds = ", ".join(f"{len(n)} {f}" for f, n in found.items())
    raise SourceError(f"{path} holds several kinds of shards ({kinds}), and a source is of one kind. Give each kind a folder of its own.")


def _saved(path: str) -> list[tuple[str, str, str]]:
    """Folders of `datasets.save_to_disk` at or directly below `path`."""
    if exists(join(path, "state.json")) and exists(join(path, "dataset_info.json")):
        return [(path, "hf", path.rsplit("/", 1)[-1])]
    names = [f for f in _rows_below(path) if f.endswith("/state.json")] if _may_hold_saved(path) else []
    return [(join(path, n.rsplit("/", 1)[0]), "hf", n.rsplit("/", 1)[0]) for n in names]


def _may_hold_saved(path: str) -> bool:
    if exists(join(path, "dataset_dict.json")) or read_manifest(path).get("format") == "hf":
        return True
    return not is_remote(path) and any(Path(local(path)).glob("*/state.json"))


def _stem(name: str) -> str:
    ends = sorted((s for group in SUFFIXES.values() for s in group), key=len, reverse=True)
    ending = next((s for s in (*ends, ".json") if name.lower().endswith(s)), "")
    return name[: len(name) - len(ending)] if ending else name


def named(found: Sequence[tuple[str, str, str]]) -> list[Shard]:
    """(path, format, relative name) as shards with unique, file-system-safe names."""
    taken: set[str] = set()
    shards = []
    for path, format, relative in found:
        name = _safe(_stem(relative) if format != "folder" else relative)
        while name.lower() in taken:
            name = f"{name}-{hashlib.sha256(relative.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        taken.add(name.lower())
        shards.append(Shard(path, format, name))
    return shards


def _safe(name: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "__")).lstrip(".") or "shard"
    return clean if len(clean) <= 150 else clean[:130] + "-" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
