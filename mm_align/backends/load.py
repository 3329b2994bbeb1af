"""From a model's name to a backend: `hf:ID|DIR` (the default), `zoo:NAME`, a bare zoo name, or `null:`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from data_tools.calls import Backend

BACKENDS = {"hf": ("transformers_", "load"), "null": ("null", "load")}
ZOO = Path(__file__).resolve().parent.parent / "zoo"


def load_backend(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | str = "auto",
    trust_remote_code: bool = False,
) -> Backend:
    """The backend that runs `model`.

    `model`: a local folder, a hub id, a name under `mm_align/zoo` (with or without `zoo:`), or `null:REPLY`.
    `device` "auto" is CUDA where there is one, else the CPU; `dtype` "auto" is bfloat16 on CUDA and float32 elsewhere,
    whatever the file says (float16 on a CPU is several times slower). `batch_size` "auto" follows free memory.
    Raises UserError when the model cannot be found, is no image-text model, or lacks its processor.
    """
    scheme, name = split_name(model)
    module, attribute = BACKENDS[scheme]
    load = getattr(import_module(f".{module}", __package__), attribute)
    backend: Backend = load(name, revision=revision, device=device, dtype=dtype, batch_size=batch_size, trust_remote_code=trust_remote_code)
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


def zoo_folder(name: str) -> Path:
    """The folder of a bundled model. Raises UserError that lists the bundled ones."""
    from ..config import UserError

    if not (ZOO / name / "config.json").is_file():
        known = sorted(p.parent.name for p in ZOO.glob("*/config.json"))
        raise UserError(f"no bundled model '{name}'; bundled are: {', '.join(known) or 'none'}")
    return ZOO / name
