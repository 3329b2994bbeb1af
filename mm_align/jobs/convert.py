"""`mmalign convert`: a released AITQE checkpoint becomes a folder that `from_pretrained` reads, or the other way round."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from ..config import JobConfig, UserError

log = logging.getLogger(__name__)


class ConvertConfig(JobConfig):
    """What to convert and where to. The direction follows from the source."""

    source: str = Field(description="folder or hub id of a checkpoint", json_schema_extra={"positional": True})
    out: Path = Field(description="folder to write")
    revision: str | None = Field(None, description="hub revision of the source")
    overwrite: bool = Field(False, description="replace an existing folder")


def run(config: ConvertConfig) -> int:
    """Write the converted checkpoint and say what became of each weight. Raises UserError for anything but the two layouts."""
    if config.out.exists() and not config.overwrite:
        raise UserError(f"{config.out} exists; choose another --out or add --overwrite")
    source = _folder(config)
    partial = config.out.with_name(f".{config.out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    told = _convert(source, partial)
    if config.out.exists():
        shutil.rmtree(config.out)
    partial.rename(config.out)
    print("\n".join([*told, f"written to {config.out}"]))
    return 0


def _folder(config: ConvertConfig) -> Path:
    """The source as a local folder, downloaded if it is a hub id."""
    if Path(config.source).is_dir():
        if config.out.resolve() == Path(config.source).resolve():
            raise UserError("--out is the source itself; choose another folder")
        return Path(config.source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(config.source, revision=config.revision))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(f"'{config.source}' is no folder and cannot be downloaded ({str(error).splitlines()[0][:200]})") from error


def _convert(source: Path, out: Path) -> list[str]:
    from ..models import aitqe_layout

    kind = aitqe_layout.read_json(source / "config.json").get("model_type") if (source / "config.json").is_file() else None
    if kind == aitqe_layout.MODEL_TYPE:
        return _from_released(source, out)
    if kind == "mm_align_lvlm":
        return aitqe_layout.save_released(*_ours(source), out)
    found = f"a {kind} model" if kind else "no config.json"
    raise UserError(f"{source} holds {found}; expected a released AITQE checkpoint (model_type mm) or one of ours (mm_align_lvlm)")


def _from_released(source: Path, out: Path) -> list[str]:
    from ..models.aitqe_layout import load_released

    model, processor, layout = load_released(source)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return layout.lines()


def _ours(source: Path) -> tuple[Any, Any]:
    from ..models import LvlmForConditionalGeneration, LvlmProcessor

    return LvlmForConditionalGeneration.from_pretrained(source, dtype="auto"), LvlmProcessor.from_pretrained(source)
