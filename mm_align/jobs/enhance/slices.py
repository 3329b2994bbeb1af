"""`mmalign enhance-data --shard i/n`: one slice of the shards, as a run of its own that `mmalign merge` joins with the others."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError

if TYPE_CHECKING:
    from data_tools.io import Shard

    from .config import EnhanceConfig

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a run works and on what; `binding`: what it is bound to beside configuration and source."""

    root: Path
    shards: Sequence[Shard]
    binding: dict[str, Any]


def place_of(config: EnhanceConfig, shards: Sequence[Shard]) -> Place:
    """OUT and all shards, or a slice's folder in OUT and its shards. Raises UserError, and RunRefused where OUT is divided otherwise."""
    from data_tools.engines.slices import parse_slice, refuse_other_division, refuse_slices

    out = Path(config.out)
    if config.shard is None:
        refuse_slices(out)
        return Place(out, shards, {})
    try:
        wanted = parse_slice(config.shard, os.environ)
    except ValueError as error:
        raise UserError(str(error)) from error
    if config.limit is not None:
        raise UserError(
            "--limit counts rows of the whole source, of which a slice knows its part only: do without --shard or without --limit"
        )
    refuse_other_division(out, wanted)
    mine = wanted.pick(shards)
    log.info("slice %d of %d: %d of %d shards", wanted.number, wanted.of, len(mine), len(shards))
    if "signals" in config.stages:
        log.info("copies and shares are told among the rows of this slice for now; `mmalign merge` tells them anew among all")
    if config.cascade:
        log.warning("WARNING: the cascade is calibrated on this slice alone, and merging does not change that: see docs/engines.md")
    division = {"total": len(shards), "names": _digest([shard.name for shard in shards])}
    return Place(wanted.folder(out), mine, {"slice": list(wanted), "division": division})


def described(shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """Shards as a slice's record keeps them for `merge`, which may be run elsewhere."""
    from data_tools.io.paths import REMOTE

    found = [dataclasses.asdict(shard) for shard in shards]
    own = [shard for shard in found if not REMOTE.match(shard["path"]) and Path(shard["path"]).exists()]
    for shard in own:
        shard["path"] = str(Path(shard["path"]).absolute())
    return found


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
