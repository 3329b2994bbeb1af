"""Safetensors files by their headers: names, shapes and dtypes without reading a weight."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from ..config import UserError

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
    """The safetensors files of a checkpoint folder. Raises UserError when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        other = sorted(p.name for p in folder.glob("*.bin"))
        found = f"only {', '.join(other[:3])}, which are pickles; convert them to safetensors first" if other else "none"
        raise UserError(f"expected *.safetensors in the model's folder {folder.name}, found {found}")
    return files


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
    except ValueError as error:
        raise UserError(f"{file.name} is no whole safetensors file: its header cannot be read ({error})") from error
    entries.pop("__metadata__", None)
    return {name: Header(tuple(entry["shape"]), DTYPES.get(entry["dtype"], torch.uint8)) for name, entry in entries.items()}


def load_tensors(folder: Path, names: Container[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a folder whose name is in `names`, file by file."""
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                if name in names:
                    yield name, opened.get_tensor(name)
