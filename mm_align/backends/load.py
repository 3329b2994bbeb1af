"""From a model's name to a backend: `hf:ID|DIR` (the default), `zoo:NAME`, a bare zoo name, `openai:URL#MODEL`, or `null:`."""

from __future__ import annotations

import difflib
import json
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.calls import Backend

from ..config import UserError

if TYPE_CHECKING:
    from .endpoint_options import EndpointOptions

BACKENDS = {  # scheme -> module of this folder, whose `load` makes the backend
    "hf": "transformers_",
    "openai": "openai_",
    "null": "null",
}
DEVICE = re.compile(r"auto|cpu|(cuda|mps)(:\d+)?")
DTYPES = {name: name for name in ("float32", "bfloat16", "float16")} | {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ZOO = Path(__file__).resolve().parent.parent / "zoo"


def load_backend(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | str = "auto",
    trust_remote_code: bool = False,
    endpoint: EndpointOptions | None = None,
) -> Backend:
    """The backend that runs `model`.

    `model`: a local folder, a hub id, a name under `mm_align/zoo` (with or without `zoo:`),
    `openai:URL#MODEL` (an OpenAI-compatible endpoint, as in openai:http://localhost:8000/v1#NAME), or `null:REPLY`.
    `device` "auto" is CUDA where there is one, else the CPU; `dtype` "auto" is bfloat16 on CUDA and float32 elsewhere,
    whatever the file says (float16 on a CPU is several times slower). `batch_size` "auto" follows free memory. `endpoint`: how an
    endpoint is asked, should it be one.
    Raises UserError when the model cannot be found, is no image-text model, or lacks its processor, and for an unknown device or dtype.
    """
    check_device(device, dtype)
    scheme, name = find_name(model)
    load = import_module(f".{BACKENDS[scheme]}", __package__).load
    placed = {"device": device, "dtype": dtype, "batch_size": batch_size}
    backend: Backend = load(name, revision=revision, trust_remote_code=trust_remote_code, endpoint=endpoint, **placed)
    return backend


def split_name(model: str) -> tuple[str, str]:
    """`"zoo:tiny-aitqe"` -> ("hf", its folder); an existing path or a plain id has the scheme "hf"."""
    scheme, colon, rest = model.partition(":")
    if colon and scheme == "zoo":
        return "hf", str(zoo_folder(rest))
    if colon and scheme in BACKENDS:
        return scheme, rest
    if not Path(model).exists() and "/" not in model and (ZOO / model / "config.json").is_file():
        return "hf", str(ZOO / model)
    return "hf", model


def find_name(model: str) -> tuple[str, str]:
    """As `split_name`. Raises UserError for a name that can be neither folder, bundled model nor hub id of an image-text model.

    Hub ids without an owner exist (gpt2), but none is an image-text model, so such a name is not looked up.
    """
    scheme, name = split_name(model)
    if scheme == "hf" and name and Path(name).is_file():
        raise UserError(f"{name} is a file; give the model's folder, which holds config.json, its weights and its processor")
    if scheme == "hf" and (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        raise UserError(f"no folder {name}; give a folder with config.json, a hub id (owner/name) or a bundled model's name")
    if scheme == "hf" and "/" not in name and not name.startswith((".", "~")) and not (name and Path(name).is_dir()):
        near = difflib.get_close_matches(name, bundled(), n=1)
        meant = f" (did you mean '{near[0]}'?)" if near else ""
        known = ", ".join(bundled()) or "none"
        raise UserError(f"no model '{name}'{meant}; bundled are: {known}; any other is given as a folder or a hub id (owner/name)")
    return scheme, name


def domain_of(model: str) -> dict[str, Any] | None:
    """What a model that knows one world only says of it (`domain.json`): {"name", "row_key" (the field by which its data is known),
    "message" for other data}."""
    path = Path(split_name(model)[1]) / "domain.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def check_device(device: str, dtype: str) -> None:
    """Raise UserError for a device or dtype that no machine has; whether this one has it, only torch can tell."""
    if not DEVICE.fullmatch(device):
        raise UserError(f"unknown device '{device}'; use auto, cpu, cuda[:N] or mps")
    if dtype != "auto" and dtype not in DTYPES:
        raise UserError(f"unknown dtype '{dtype}'; use auto, {', '.join(DTYPES)}")


def bundled() -> list[str]:
    """Names of the bundled models."""
    return sorted(p.parent.name for p in ZOO.glob("*/config.json"))


def zoo_folder(name: str) -> Path:
    """The folder of a bundled model. Raises UserError that lists the bundled ones."""
    if not name or not (ZOO / name / "config.json").is_file():
        raise UserError(f"no bundled model '{name}'; bundled are: {', '.join(bundled()) or 'none'}")
    return ZOO / name
