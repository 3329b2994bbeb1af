"""`mmalign enhance-data --out s3://... --scratch DIR`: the run is made in a local folder and then brought to the store."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import UserError

if TYPE_CHECKING:
    from .config import EnhanceConfig

log = logging.getLogger(__name__)


def made_here(config: EnhanceConfig) -> EnhanceConfig:
    """The config of the run itself: made in --scratch where --out is a store, else the same object.

    UserError where --out is no local folder and cannot be reached by way of one.
    """
    from data_tools.io import SourceError
    from data_tools.io.paths import REMOTE
    from data_tools.io.upload import check_store

    if not REMOTE.match(config.out):
        if config.scratch is not None:
            raise UserError(f"--scratch has no effect with --out '{config.out}', which is a local folder itself")
        return config
    if config.scratch is None or config.out.lower().startswith("file://"):
        raise UserError(f"--out '{config.out}' is no local folder; write to one and copy the result, or name one by --scratch for the run")
    if config.shard is not None:
        raise UserError("--shard writes slices that `mmalign merge` joins in a local folder: give one as --out, and copy what is merged")
    try:
        check_store(config.out)
    except SourceError as error:
        raise UserError(str(error)) from error
    return config.model_copy(update={"out": config.scratch})


def bring(config: EnhanceConfig) -> None:
    """Put the finished run of --scratch to --out, or what is lacking of it there. SIGTERM stops between two objects (Stopped)."""
    from data_tools.io import SourceError
    from data_tools.io.upload import upload
    from data_tools.run.plan import Watch

    from ..progress import stop_on_signals

    folder = Path(config.scratch or "")
    run = hashlib.sha256((folder / ".mmalign" / "run.json").read_bytes()).hexdigest()[:16]
    try:
        with stop_on_signals() as stop:
            fresh = upload(folder, config.out, run, overwrite=config.overwrite, check=Watch(stop).check)
    except SourceError as error:
        raise UserError(str(error)) from error
    log.info("%d files brought to %s; '%s' holds the run", fresh, config.out, folder)
