"""`mmalign doctor`: what is installed, what is broken, and how to mend it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..config import JobConfig, UserError

PACKAGES = ("mm_align", "data_tools", "vision", "video")
OPTIONAL = {
    "peft": "LoRA training",
    "decord": "fast video reading (wheels for x86-64 Linux and Windows)",
    "torchcodec": "video reading, also on a GPU",
    "av": "video reading everywhere",
    "flash_attn": "flash attention on NVIDIA GPUs",
    "bitsandbytes": "4- and 8-bit models",
    "ray": "several machines",
    "simplejpeg": "small pictures for signals a little faster",
    "rapidocr": "text in pictures (--stages ocr)",
    "s3fs": "s3:// paths",
    "gcsfs": "gs:// paths",
    "matplotlib": "plots of result pages",
}


class DoctorConfig(JobConfig):
    """What to look at."""

    model: str | None = Field(None, description="also inspect this model (id or folder): config and safetensors headers only, no weights")
    endpoint: str | None = Field(None, description="also ask this endpoint by tiny requests what it offers: openai:URL#MODEL")
    refresh: bool = Field(False, description="of --endpoint: ask anew, whatever was found within the last day")
    json_output: bool = Field(False, description="print one JSON object", json_schema_extra={"flag": "json"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report; `cure` says what to do about anything that is not ok."""

    topic: str
    name: str
    value: str
    status: Literal["ok", "note", "broken"] = "ok"
    cure: str = ""

    def to_line(self) -> str:
        mark = {"ok": "  ", "note": "- ", "broken": "X "}[self.status]
        return f"  {mark}{self.name}: {self.value}" + (f"\n      -> {self.cure}" if self.cure else "")


def run(config: DoctorConfig) -> int:
    """Print the findings; 0 when nothing needed is broken, 1 otherwise."""
    model = _inspect(config.model) if config.model else None
    offered = _ask(config.endpoint, refresh=config.refresh) if config.endpoint else None
    findings = examine()
    broken = [finding for finding in findings if finding.status == "broken"]
    if config.json_output:
        report = {"ok": not broken, "findings": [asdict(finding) for finding in findings], "model": model, "endpoint": offered}
        print(json.dumps(report, indent=2))
    else:
        _print(findings, {"model": model, "endpoint": offered})
        print(f"\n{len(broken)} broken" if broken else "\neverything needed is in order")
    return 1 if broken else 0


def _print(findings: list[Finding], asked: Mapping[str, list[str] | None]) -> None:
    for topic in dict.fromkeys(finding.topic for finding in findings):
        print(f"\n{topic}")
        print("\n".join(finding.to_line() for finding in findings if finding.topic == topic))
    for name, lines in asked.items():
        if lines is not None:
            print(f"\n{name}")
            print("\n".join(f"    {line}" for line in lines))


def _ask(name: str, *, refresh: bool) -> list[str]:
    """What an endpoint was seen to offer. UserError where the name is none, or nobody answers."""
    from data_tools.calls import CallFailed

    from ..backends.load import split_name
    from ..backends.openai_ import open_endpoint
    from ..backends.probing import probed

    scheme, rest = split_name(name)
    if scheme != "openai":
        raise UserError(f"'{name}' is no endpoint; give --endpoint openai:http://HOST:PORT/v1#MODEL")
    endpoint, model = open_endpoint(rest)
    try:
        return [f"model: {model}", *probed(endpoint, model, refresh=refresh).to_lines()]
    except CallFailed as failure:
        raise UserError(f"{endpoint.url}: {failure}") from failure


def _inspect(model: str) -> list[str]:
    from ..backends.load import find_name

    scheme, name = find_name(model)
    if scheme != "hf":
        raise UserError(f"'{model}' has no weights to inspect; give a folder, a hub id or a bundled model's name")
    inspect_model = import_module("mm_align.models.inspect").inspect_model
    return list(inspect_model(name).to_lines())


def examine() -> list[Finding]:
    """Every finding about this installation and machine, needed things first."""
    imports = _imports()
    return [
        *_names(),
        *_versions(),
        *imports,
        *(_devices() if imports[0].status == "ok" else ()),
        *(_optional(name, use) for name, use in OPTIONAL.items()),
        *_hub(),
        *_disk(),
    ]


def _names() -> Iterator[Finding]:
    """Who owns our four import names: each must be the folder beside this package."""
    root = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        spec = find_spec(name)
        origin = spec.origin if spec else None
        ours = origin is not None and Path(origin).resolve().parent == root / name
        cure = "" if ours else f"rename or move that file, or uninstall what owns it; it should be {root / name}"
        yield Finding("package names", name, origin or "not found", "ok" if ours else "broken", cure)


def _versions() -> Iterator[Finding]:
    """Python and each required distribution against the bounds this distribution declares."""
    from packaging.requirements import Requirement

    yield Finding("versions", "python", f"{platform.python_version()} at {sys.executable}")
    yield Finding("versions", "mm-align", metadata.version("mm-align"))
    for line in metadata.requires("mm-align") or []:
        need = Requirement(line)
        if need.marker is None or ("extra" not in str(need.marker) and need.marker.evaluate()):
            yield _version(need)


def _version(need: Any) -> Finding:
    found, cure = version_of(need.name), f"pip install '{need.name}{need.specifier}'"
    if found is None:
        return Finding("versions", need.name, "not installed", "broken", cure)
    if not need.specifier.contains(found, prereleases=True):
        return Finding("versions", need.name, f"{found}, but {need.specifier} is needed", "broken", cure)
    return Finding("versions", need.name, found)


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _imports() -> list[Finding]:
    """The heavy three, as programs use them; a torch and a torchvision of different kinds break AutoProcessor too."""
    return [_import("torch", "Tensor"), _import("torchvision", "ops"), _import("transformers", "AutoProcessor")]


def _import(name: str, attribute: str) -> Finding:
    try:
        getattr(import_module(name), attribute)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return Finding("imports", name, str(error).splitlines()[0], "broken", explain_import(name, str(error)))
    return Finding("imports", name, f"{name}.{attribute} imports")


def explain_import(name: str, message: str) -> str:
    """What to do when `import name` ended in `message`."""
    if "torchvision::" in message or name == "torchvision":
        return (
            "torch and torchvision are builds of different kinds (often a CPU-only torch beside the package index's CUDA torchvision): "
            "install both from the same place, `pip install --force-reinstall torch torchvision`"
        )
    return f"pip install --force-reinstall {name}"


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(index)
        yield Finding("devices", f"cuda:{index}", f"{card.name}, {card.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "Apple GPU (used when asked for by --device mps)")
    yield Finding("devices", "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    yield Finding("devices", "default", default_device())


def default_device() -> str:
    """What `--device auto` means on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _optional(name: str, use: str) -> Finding:
    if find_spec(name) is None:
        return Finding("optional parts", name, f"not installed ({use})", "note")
    return Finding("optional parts", name, f"{version_of(name) or 'installed'} ({use})")


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    cure = "only models and data already in the cache, or given as folders, can be used" if offline else ""
    yield Finding("hub", "offline mode", "on (HF_HUB_OFFLINE)" if offline else "off", "note" if offline else "ok", cure)
    yield Finding("hub", "cache", constants.HF_HUB_CACHE)


def _disk() -> Iterator[Finding]:
    from huggingface_hub import constants

    for name, place in {"here": Path.cwd(), "hub cache": Path(constants.HF_HUB_CACHE)}.items():
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(existing).free / 2**30
        yield Finding(
            "free disk", name, f"{free:.1f} GiB", "ok" if free >= 2 else "note", "" if free >= 2 else "a 7B model alone takes about 15 GiB"
        )
