"""Weights from safetensors files alone: what would have to be unpickled is refused, with the way to convert it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

PICKLED = ("*.bin", "*.pth", "*.pt", "*.ckpt")


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises ValueError in a sentence for any other file, a pickle above all."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no file '{path}'; give a .safetensors file")
    if _is_pickle(path):
        raise ValueError(f"'{path}' is a pickle, which can run code when it is read, and is not read here. {conversion(path)}")
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
        return weights
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' is no safetensors file: {error}") from error


def conversion(path: Path) -> str:
    """How to make a safetensors file of a pickled state dict without running what it holds."""
    code = f"import torch; from safetensors.torch import save_file; save_file(torch.load('{path}', weights_only=True), 'head.safetensors')"
    return f'Convert it once: python -c "{code}"'


def refuse_pickled_folder(folder: str | Path) -> None:
    """ValueError for a local folder with pickled weights and no safetensors."""
    folder = Path(folder)
    pickled = sorted(path for pattern in PICKLED for path in folder.glob(pattern))
    if pickled and not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"'{folder}' holds its weights as a pickle ('{pickled[0].name}'), which can run code when it is read, and no safetensors. "
            f"Convert it once by its model's save_pretrained, on a machine where you trust it"
        )


def digest(path: str | Path) -> str:
    """First 16 hex digits of the SHA-256 of a file, or of the safetensors files of a folder in the order of their names."""
    path = Path(path)
    found = hashlib.sha256()
    for part in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with part.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def _is_pickle(path: Path) -> bool:
    """A bare pickle of protocol 2 or later, or the archive that torch.save writes."""
    with path.open("rb") as file:
        start = file.read(4)
    return start[:1] == b"\x80" or start == b"PK\x03\x04"
