"""Safetensors files by their headers: names, shapes and dtypes without reading a weight."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from ..config import UserError

INDEX = "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32}
_MOST = 100_000_000  # bytes of header that the format allows


class Header(NamedTuple):
    """What a safetensors header says of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder. Raises UserError when there are none, or one that the index names is missing."""
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if missing := sorted(indexed(folder) - {file.name for file in files}):
        raise UserError(f"the model in {folder.name} is not whole: {INDEX} names {', '.join(missing[:4])}, which is missing; copy it again")
    if not files:
        other = sorted(p.name for p in folder.glob("*.bin"))
        found = f"only {', '.join(other[:3])}, which are pickles; convert them to safetensors first" if other else "none"
        raise UserError(f"expected *.safetensors in the model's folder {folder.name}, found {found}")
    return files


def indexed(folder: Path) -> set[str]:
    """The files that the index of a sharded checkpoint names; none where model.safetensors holds everything."""
    index = folder / INDEX
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return set()
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{INDEX} of the model in {folder.name} cannot be read ({error!r}); copy the model again") from error


def has_weights(folder: Path) -> bool:
    """Whether all safetensors files of a checkpoint are in the folder, as far as its index tells."""
    there = {file.name for file in folder.glob("*.safetensors") if file.is_file()}
    return bool(there) and indexed(folder) <= there


def check_whole(folder: Path) -> None:
    """Raise UserError when a safetensors file of the folder is missing, damaged or cut short; reads headers only."""
    read_headers(folder)


def read_headers(folder: Path) -> dict[str, Header]:
    """Tensor name -> header, over all files of a folder. Raises UserError for a damaged file."""
    return {name: header for file in weight_files(folder) for name, header in read_header(file).items()}


def read_header(file: Path) -> dict[str, Header]:
    """Tensor name -> header of one safetensors file. Raises UserError for a damaged one."""
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MOST + 1
        text = stream.read(length) if length <= _MOST else b""
    try:
        entries: dict[str, Any] = json.loads(text)
        entries.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        headers = {name: Header(tuple(entry["shape"]), DTYPES.get(entry["dtype"], torch.uint8)) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{file.name} is no whole safetensors file: its header cannot be read ({error}); fetch it again") from error
    if file.stat().st_size < end:
        raise UserError(f"{file.name} is cut short: {file.stat().st_size:,} bytes of {end:,}; fetch it again")
    return headers


def load_tensors(folder: Path, names: Container[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a folder whose name is in `names`, file by file. Raises UserError for a damaged file."""
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    if name in names:
                        yield name, opened.get_tensor(name)
        except SafetensorError as error:
            raise UserError(f"{file.name} is damaged: {error}; fetch it again") from error
