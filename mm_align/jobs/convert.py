"""`mmalign convert`: a checkpoint of AITQE, Opt-Visor or LLaVA-1.5 becomes a folder that `from_pretrained` reads as ours, or back."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from ..config import JobConfig, UserError

MARK = "converted.json"  # what convert writes last: from what, and which files are its own
FINGERPRINTED = (".safetensors", ".json", ".txt", ".jinja")


class ConvertConfig(JobConfig):
    """What to convert and where to: another layout into ours, or our model into another layout."""

    source: str = Field(description="folder or hub id of a checkpoint", json_schema_extra={"positional": True})
    out: Path = Field(description="folder to write")
    to: Literal["auto", "aitqe", "llava"] = Field("auto", description="layout for a model of ours: AITQE's where it fits, else LLaVA's")
    revision: str | None = Field(None, description="hub revision of the source")
    overwrite: bool = Field(False, description="replace a folder that an earlier convert wrote")


class Source(NamedTuple):
    """A checkpoint by name (never a path) and content; `folder()` is where its files are, downloaded first where need be."""

    name: str
    revision: str
    folder: Callable[[], Path]
    to: str = "auto"

    def origin(self) -> dict[str, str]:
        return {"source": self.name, "revision": self.revision, "to": self.to}


def run(config: ConvertConfig) -> dict[str, Any]:
    """Write the converted checkpoint and say what became of each weight; nothing where that has been done already. The report is
    converted.json, and where the folder is.

    Raises UserError for anything but the known layouts, for folders inside each other, and for an existing folder that is not
    convert's own work.
    """
    out = config.out.expanduser().resolve()
    source = _source(config, out)
    if not config.overwrite and _is_done(out, source):
        print(f"{config.out} already holds {source.name} ({source.revision}), converted; nothing to do")
        return {"out": str(config.out), **_mark(out)}
    _check_replaceable(config, out)
    folder = source.folder()
    _check_apart(folder, out)
    told = _write(folder, out, source)
    print("\n".join([*told, f"written to {config.out}"]))
    return {"out": str(config.out), **_mark(out)}


# -- the source --------------------------------------------------------------------------------------------------------


def _source(config: ConvertConfig, out: Path) -> Source:
    from ..backends.load import find_name

    scheme, name = find_name(config.source)
    if scheme != "hf":
        raise UserError(f"'{config.source}' has no weights to convert; give a folder or a hub id")
    if (folder := Path(name)).is_dir():
        _check_apart(folder, out)
        return Source(folder.resolve().name, _fingerprint(folder), lambda: folder, config.to)
    from ..models import hub

    commit = hub.read_config(name, config.revision).commit
    return Source(name, commit, lambda: hub.snapshot(name, commit), config.to)


def _check_apart(source: Path, out: Path) -> None:
    """Writing into the source would change it, and replacing what holds the source would remove it."""
    source = source.resolve()
    if out == source:
        raise UserError("--out is the source itself; choose another folder")
    if out in source.parents or source in out.parents:
        raise UserError("--out and the source lie inside each other; choose a folder beside the source")


def _fingerprint(folder: Path) -> str:
    """First 16 hex digits of the sha256 over names and contents of the files that make up a checkpoint."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*"), *folder.glob("*/config.json")]):
        if file.suffix in FINGERPRINTED and file.is_file():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


# -- the output --------------------------------------------------------------------------------------------------------


def _is_done(out: Path, source: Source) -> bool:
    """Whether `out` is this source's conversion, all files of it still there."""
    mark = {"to": "auto"} | _mark(out)
    return {key: mark.get(key) for key in source.origin()} == source.origin() and _files(out) == mark["files"]


def _check_replaceable(config: ConvertConfig, out: Path) -> None:
    if not out.exists():
        return
    if not config.overwrite:
        raise UserError(f"{config.out} exists; choose another --out or add --overwrite")
    if not out.is_dir():
        raise UserError(f"{config.out} is a file; choose another --out")
    found = sorted(_files(out))
    if found and not _mark(out):
        raise UserError(f"{config.out} is no folder that convert wrote (no {MARK} in it), so it is not replaced; choose another --out")
    if foreign := [name for name in found if name not in _mark(out)["files"]]:
        raise UserError(f"{config.out} holds what convert did not write ({', '.join(foreign[:4])}), so it is not replaced; move that away")


def _mark(out: Path) -> dict[str, Any]:
    """What the mark file says; nothing where there is none or it is not convert's."""
    try:
        found = json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else {}


def _files(out: Path) -> dict[str, int]:
    """Bytes of every file under `out` but the mark; links and the like count as files, so that they are not overlooked."""
    found = {file.relative_to(out).as_posix(): file for file in out.rglob("*") if file.is_symlink() or not file.is_dir()}
    return {name: file.lstat().st_size for name, file in sorted(found.items()) if name != MARK}


def _write(folder: Path, out: Path, source: Source) -> list[str]:
    """Into a hidden folder beside `out`, which takes its place when whole and is removed when not."""
    partial = out.with_name(f".{out.name}.part")
    _check_apart(folder, partial)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {partial}: {error.strerror}; choose another --out") from error
    try:
        told = _convert(folder, partial, source.to)
        mark = source.origin() | {"files": _files(partial)}
        (partial / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        _replace(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return told


def _replace(out: Path, partial: Path) -> None:
    """What was there before goes only when the new folder is in its place."""
    earlier = out.with_name(f".{out.name}.earlier")
    if out.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        out.rename(earlier)
    partial.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)


# -- the conversion ----------------------------------------------------------------------------------------------------


def _convert(source: Path, out: Path, to: str) -> list[str]:
    from ..models.bars import hide_bars_without_terminal
    from ..models.layout import read_json
    from ..models.others import is_other, load_others

    hide_bars_without_terminal()
    written = read_json(source / "config.json") if (source / "config.json").is_file() else {}
    kind = written.get("model_type")
    if kind == "mm_align_lvlm":
        return _from_ours(source, out, to)
    if is_other(written):
        return _into_ours(load_others(source), out)
    found = f"a {kind} model" if kind else "no config.json"
    raise UserError(
        f"{source} holds {found}; expected a released AITQE or Opt-Visor (model_type mm), LLaVA-1.5 (llava) or ours (mm_align_lvlm)"
    )


def _into_ours(loaded: Any, out: Path) -> list[str]:
    model, processor, layout = loaded
    model.save_pretrained(out)
    processor.save_pretrained(out)
    told: list[str] = layout.lines()
    return told


def _from_ours(source: Path, out: Path, to: str) -> list[str]:
    from ..models import aitqe_layout, llava_saving

    model, processor = _ours(source)
    if to == "aitqe" or (to == "auto" and not aitqe_layout.does_not_fit(model.config)):
        return aitqe_layout.save_released(model, processor, out)
    return llava_saving.save_llava(model, processor, out)


def _ours(source: Path) -> tuple[Any, Any]:
    from ..models import LvlmForConditionalGeneration, LvlmProcessor
    from ..models.headers import check_whole

    check_whole(source)
    return LvlmForConditionalGeneration.from_pretrained(source, dtype="auto"), LvlmProcessor.from_pretrained(source)
