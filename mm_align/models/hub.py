"""A hub id becomes its config and its files, from the cache where they are there or the network is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..config import UserError, first_line
from .bars import hide_bars_without_terminal
from .layout import read_json

PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.jinja"]  # no pickles, no code

# what the hub's client raises without network, whichever HTTP library it is built on
FAILURES = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, HFValidationError))
ADVICE = "It is no local folder; on a machine without network give a local folder, or download it first (hf download ID)."


class HubConfig(NamedTuple):
    """`written`: the config.json of a repository at `commit`; `folder`: where the cache keeps that commit's files."""

    written: dict[str, Any]
    commit: str
    folder: Path


def read_config(name: str, revision: str | None = None) -> HubConfig:
    """The config of a hub id. Raises UserError when it cannot be had; nothing else is fetched."""
    hide_bars_without_terminal()
    try:
        file = Path(huggingface_hub.hf_hub_download(name, "config.json", revision=revision))
    except FAILURES as error:
        raise UserError(f"cannot load the model '{name}': {first_line(error)}. {ADVICE}") from error
    return HubConfig(read_json(file), file.parent.name, file.parent)


def snapshot(name: str, revision: str | None = None) -> Path:
    """The folder with the weights and the processor of a hub id, downloaded where the cache lacks it. Raises UserError."""
    hide_bars_without_terminal()
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
    except FAILURES as error:
        raise UserError(f"cannot download the model '{name}': {first_line(error)}. {ADVICE}") from error
