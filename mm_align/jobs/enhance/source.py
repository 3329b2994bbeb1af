"""A first look at what `mmalign enhance-data` is to read: its shards, its first rows, whether they suit the command and the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.io import Shard
    from data_tools.records import Sample
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Item, Plan

    from .config import EnhanceConfig

log = logging.getLogger(__name__)
LOOK_ROWS = 20  # show whether the data is of the model's domain
NAME_CHARS = 80  # of a domain, in a title


def shards_of(config: EnhanceConfig) -> list[Shard]:
    """The shards of the source; SourceError where there is nothing to read."""
    from data_tools.io import list_shards

    shards = list_shards(config.source)
    log.info("%s: %d shard%s of %s", config.source, len(shards), "" if len(shards) == 1 else "s", shards[0].format)
    return shards


def keys_of(config: EnhanceConfig) -> dict[str, Any]:
    """Which fields of a row are what, and where its pictures' paths start: as `data_tools.io.read` and a `Plan` are told."""
    return {"caption_key": config.caption_key, "image_key": config.image_key, "image_root": config.image_root}


def first_rows(shards: Sequence[Shard], plan: Plan, n: int) -> list[Item]:
    """The first `n` rows, whether they can be read or not."""
    from itertools import chain, islice

    return list(islice(chain.from_iterable(plan.read(shard) for shard in shards), n))


def first_samples(shards: Sequence[Shard], plan: Plan, n: int) -> list[Sample]:
    """The readable ones of the first `n` rows."""
    from data_tools.records import Sample

    return [item for item in first_rows(shards, plan, n) if isinstance(item, Sample)]


def refuse_absent_fields(config: EnhanceConfig, shards: Sequence[Shard]) -> None:
    """UserError where none of the first rows has the field that --caption-key, --image-key or --uid-key names."""
    from data_tools.io import read
    from data_tools.records import Rejected
    from data_tools.run.steady import read_on

    asked = {"missing_caption": config.caption_key, "missing_image": config.image_key}
    if not any(asked.values()) and config.uid_key is None:
        return
    first = list(read_on(shards[0], lambda: read(shards[0], **keys_of(config), limit=LOOK_ROWS)))
    if config.uid_key is not None:
        _refuse_absent_uid(config.uid_key, shards[0], [row for row in first if not isinstance(row, Rejected)])
    rows = [(row.reason, row.detail) if isinstance(row, Rejected) else ("", "") for row in first]
    reason, detail = rows[0] if rows else ("", "")
    if asked.get(reason) and all(other == reason for other, _ in rows):
        flag = "--caption-key" if reason == "missing_caption" else "--image-key"
        raise UserError(f"{flag} {asked[reason]}: none of the first {len(rows)} rows of '{shards[0].path}' has it: {detail}")


def _refuse_absent_uid(key: str, shard: Shard, samples: Sequence[Sample]) -> None:
    if samples and all(key not in sample.meta for sample in samples):
        where = f"none of the first {len(samples)} rows of '{shard.path}' has it"
        raise UserError(f"--uid-key {key}: {where}{_near(key, samples[0])}")


def _near(key: str, sample: Sample) -> str:
    import difflib

    near = difflib.get_close_matches(key, sample.meta, 1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; its fields are {', '.join(sample.meta)}"


def refuse_taken_fields(shards: Sequence[Shard], plan: Plan) -> None:
    """UserError where the first row already has a field that this command adds."""
    from data_tools.run.blocks import taken_fields

    for sample in first_samples(shards[:1], plan, 1):
        if taken := taken_fields(sample, plan):
            raise UserError(
                f"the rows of '{shards[0].path}' already have a field '{taken[0]}', which this command adds: is this the output of an "
                f"earlier run? Rename or remove the field."
            )


def warn_of_touched(run_dir: RunDir, shards: Sequence[Shard]) -> None:
    """Say which shards were written to between two starts, though by their size, beginning and end they are the same."""
    touched = run_dir.touched({shard.name: shard.path for shard in shards})
    if touched:
        names = ", ".join(touched[:3]) + (f" and {len(touched) - 3} more" if len(touched) > 3 else "")
        log.warning(
            "WARNING: written to since this run was first started: %s. Size, beginning and end are the same, as of a copy. If rows in the "
            "middle were edited, what was made of them is not true any more: start anew with --overwrite",
            names,
        )


def about_data(config: EnhanceConfig, shards: Sequence[Shard], plan: Plan, backend: Backend | None) -> dict[str, Any]:
    """For the report: the domain in its title where a model of one domain meets its own data; warnings where it meets other data, and
    where rows refuse their use for training and no stage looks at that.

    Data of one domain say so themselves, whatever looks at them: by a file `domain.json` ({"name": ...}) beside their shards.
    """
    domain = _domain(config, backend) if backend is not None else None
    unheeded = "signals" not in config.stages and config.opt_outs == "drop"
    samples = first_samples(shards, plan, LOOK_ROWS) if domain or unheeded else []
    notes = _refusals(samples) if unheeded else []
    told: dict[str, Any] = {"domain": named} if (named := _named(shards[0].path)) else {}
    if domain and samples:
        if all(domain["row_key"] in sample.meta for sample in samples):
            told = {"domain": str(domain["name"])}
        else:
            notes = [str(domain["message"]), *notes]
    for note in notes:
        log.warning("WARNING: %s", note)
    return told | ({"notes": notes} if notes else {})


def _refusals(samples: Sequence[Sample]) -> list[str]:
    """What is said where rows refuse their use for training and nothing heeds it."""
    from data_tools.filters.rights import refuses

    count = sum(refuses(sample.meta) for sample in samples)
    if not count:
        return []
    few = f"{count} of the first {len(samples)} rows refuse{'s' if count == 1 else ''} their use for training (opt-out fields)"
    return [f"{few}; only the stage `signals` heeds that: --stages signals,aitqe drops them, --opt-outs keep says that they may stay"]


def _named(shard: str) -> str | None:
    """What the folder of a shard says that its rows are of; None where it says nothing, or lies on no local disk."""
    from data_tools.disk.durable import read_json
    from data_tools.io.paths import is_remote, local

    if is_remote(shard):
        return None
    name = (read_json(Path(local(shard)).parent / "domain.json") or {}).get("name")
    return name[:NAME_CHARS] if isinstance(name, str) and name.strip() else None


def _domain(config: EnhanceConfig, backend: Backend) -> dict[str, Any] | None:
    from ...backends.load import domain_of

    told: dict[str, Any] | None = getattr(backend, "domain", None)
    return told if told is not None else domain_of(config.model)
