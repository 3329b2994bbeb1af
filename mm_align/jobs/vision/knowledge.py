"""`mmalign vision knowledge`: what an image-text encoder knows of each picture's entity, as a split, matched selections and a plot."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ...config import JobConfig, UserError
from ..own_folder import OwnFolder

if TYPE_CHECKING:
    import PIL.Image
    import torch

    from data_tools.records import Sample
    from vision.knowledge import Candidates
    from vision.pairs import Pair

log = logging.getLogger(__name__)
LOG_EVERY = 10.0  # seconds


class KnowledgeConfig(JobConfig):
    """Which pictures, by which encoder, measured and split how. Defaults are this toolkit's choice; the paper gives no numbers."""

    data: str = Field(description="file or folder of pictures with entity names", json_schema_extra={"positional": True})
    encoder: str = Field(description="image-text encoder: a local folder or a name on the hub")
    out: Path = Field(description="folder to write")
    library: Literal["transformers", "open_clip"] = Field("transformers", description="library that the encoder belongs to")
    pretrained: str | None = Field(None, description="open_clip by built-in name: the tag or checkpoint file of its weights")
    entity_key: str = Field("entity.name", description="field with the entity's name; dots lead into objects")
    caption_key: str | None = Field(None, description="field with the caption (default: the usual names)")
    image_key: str | None = Field(None, description="field with the picture (default: the usual names)")
    image_root: str | None = Field(None, description="folder that relative picture paths start from")
    limit: int | None = Field(None, ge=1, description="read only so many rows")
    names: Path | None = Field(None, description="text file of further candidate names, one a line")
    aliases: Path | None = Field(None, description='JSON file of names that mean the same: {"Big Ben": ["Elizabeth Tower"]}')
    prompt: list[str] = Field([], description="prompt around a name, {} standing for it; several are averaged (default: three plain ones)")
    temperature: float = Field(0.01, gt=0, description="of the posterior over names; 0.01 is CLIP's logit scale of 100")
    known_quantile: float = Field(0.5, ge=0, le=1, description="known: rank 1 alone, discrimination at or above this quantile of such")
    rank_limit: int = Field(10, ge=1, description="unknown: rank above this")
    ambiguity_quantile: float = Field(0.75, ge=0, le=1, description="unknown: of the rest, ambiguity at or above this quantile")
    fraction: float = Field(0.5, gt=0, le=1, description="share of each entity's pictures that a selection takes")
    per_entity: int | None = Field(None, ge=1, description="pictures of each entity in a selection, instead of a share")
    seed: int = Field(0, description="of the random selection")
    rows: bool = Field(False, description="write the selected rows themselves too, ready to train on")
    plot: bool = Field(True, description="draw knowledge.png (needs matplotlib)")
    batch_size: int = Field(32, ge=1, description="pictures embedded at a time")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16; similarities are float32 always")
    overwrite: bool = Field(False, description="replace a folder that this command made before")


@dataclass
class Pool:
    """The pictures that could be measured, as parallel lists, and a count of the rows that could not."""

    ids: list[str] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)  # shard and row
    embeddings: list[torch.Tensor] = field(default_factory=list)  # batches [m, D]
    rows: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)


def run(config: KnowledgeConfig) -> dict[str, Any]:
    """Measure, split, select and write. Raises UserError for data, encoders and folders that cannot be used."""
    from data_tools.io import SourceError

    from .knowledge_results import settings, told, write

    out = OwnFolder(config.out.expanduser(), "vision knowledge", "knowledge.json")
    if out.holds(settings(config), overwrite=config.overwrite):
        print(f"{config.out} already holds this split; --overwrite makes it anew")
        return out.summary()
    try:
        with out.filling() as folder:
            pair = load_encoder(config)
            pool = read_pool(config, pair, folder)
            summary = write(config, folder, pool, *embed_names(config, pair, pool))
            out.finish(folder, summary)
    except SourceError as error:
        raise UserError(str(error)) from error
    print("\n".join([*told(summary), f"written to {config.out}"]))
    return summary


def load_encoder(config: KnowledgeConfig) -> Pair:
    """The encoder on its device."""
    from vision.pairs import load_pair

    from ...backends.load import check_device
    from ...backends.loading import pick_device, pick_dtype
    from ...models.bars import hide_bars_without_terminal

    hide_bars_without_terminal()
    check_device(config.device, config.dtype)
    device = pick_device(config.device)
    try:
        return load_pair(
            config.encoder, config.library, pretrained=config.pretrained, device=device, dtype=pick_dtype(config.dtype, device)
        )
    except ValueError as error:
        raise UserError(str(error)) from error


# Pictures


def read_pool(config: KnowledgeConfig, pair: Pair, folder: Path) -> Pool:
    """Every usable picture embedded, batch by batch; the other rows go to quarantine.jsonl with their reason."""
    pool, told_at, start = Pool(), time.monotonic(), time.monotonic()
    pictures = usable(config, pool, folder / "quarantine.jsonl")
    while batch := list(islice(pictures, config.batch_size)):
        pool.embeddings.append(pair.image_embeddings([picture for _, _, picture in batch]).cpu())
        pool.ids += [sample.id for sample, _, _ in batch]
        pool.entities += [entity for _, entity, _ in batch]
        if time.monotonic() - told_at > LOG_EVERY:
            told_at = time.monotonic()
            log.info("%d pictures embedded, %.1f a second", len(pool.ids), len(pool.ids) / (told_at - start))
    if not pool.ids:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in pool.quarantined.most_common(4)) or "there are no rows"
        raise UserError(
            f"nothing in {config.data} could be measured ({reasons}): a row needs a picture and its entity's name in the field "
            f"'{config.entity_key}' (--entity-key)"
        )
    return pool


def usable(config: KnowledgeConfig, pool: Pool, quarantine: Path) -> Iterator[tuple[Sample, str, PIL.Image.Image]]:
    """Rows with an entity and a picture that decodes; `pool.places` says where they were read."""
    from data_tools.io import BadImage, decode
    from data_tools.records import Rejected

    with quarantine.open("w", encoding="utf-8") as gone:

        def leave(rejected: Rejected) -> None:
            pool.quarantined[rejected.reason] += 1
            gone.write(json.dumps(rejected.to_dict(), ensure_ascii=False) + "\n")

        seen: set[str] = set()
        for row in islice(rows(config), config.limit):
            pool.rows += 1
            if isinstance(row, Rejected):
                leave(row)
                continue
            assert row.source is not None  # readers always say where a row was
            try:
                entity = entity_of(row, config.entity_key)
                picture = decode(_only_picture(row, seen)).pixels
            except BadImage as error:
                leave(Rejected(row.source, error.reason, error.detail))
            except _RowProblem as error:
                leave(Rejected(row.source, error.reason, str(error)))
            else:
                assert picture is not None  # what decode gives
                seen.add(row.id)
                pool.places.append((row.source.shard, row.source.row))
                yield row, entity, picture


def rows(config: KnowledgeConfig) -> Iterator[Any]:
    """The rows of all shards in order, Sample or Rejected."""
    from data_tools.io import list_shards, read

    for shard in list_shards(config.data):
        yield from read(shard, caption_key=config.caption_key, image_key=config.image_key, image_root=config.image_root)


class _RowProblem(ValueError):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def entity_of(sample: Sample, key: str) -> str:
    """The name that field `key` (dots lead into objects) of the row holds."""
    from vision.knowledge import normalised

    value: Any = sample.meta
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        raise _RowProblem("missing_entity", f"no field '{key}' with the entity's name; name the field with --entity-key")
    if not isinstance(value, str) or not normalised(value):
        raise _RowProblem("bad_entity", f"the field '{key}' should hold a name in letters or digits, found {str(value)[:80]!r}")
    return value


def _only_picture(sample: Sample, seen: set[str]) -> Any:
    if len(sample.images) != 1:
        raise _RowProblem("image_count", f"one picture shows the entity, the row has {len(sample.images)}")
    if sample.id in seen:
        raise _RowProblem("duplicate_id", f"an earlier row has the id {sample.id[:80]!r}, and the split is told by id")
    return sample.images[0]


# Names


def embed_names(config: KnowledgeConfig, pair: Pair, pool: Pool) -> tuple[Candidates, torch.Tensor]:
    """The distinct candidate names of pool and files, and their unit vectors [C, D]."""
    from vision.knowledge import PROMPTS, candidates, name_embeddings

    try:
        found = candidates([*pool.entities, *_more_names(config.names)], _aliases(config.aliases))
        if len(found.names) < 2:
            raise UserError(f"all pictures show '{found.names[0]}': a name is known by telling it from others; give more with --names FILE")
        return found, name_embeddings(pair.text_embeddings, found.names, config.prompt or PROMPTS).cpu()
    except ValueError as error:
        raise UserError(str(error)) from error


def _more_names(path: Path | None) -> list[str]:
    return [line.strip() for line in _text(path, "--names").splitlines() if line.strip()] if path else []


def _aliases(path: Path | None) -> dict[str, list[str]]:
    if path is None:
        return {}
    try:
        found = json.loads(_text(path, "--aliases"))
    except ValueError as error:
        raise UserError(f"--aliases {path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(v, list) and all(isinstance(n, str) for n in v) for v in found.values()):
        raise UserError(f'--aliases {path} should hold an object of names and their other names: {{"Big Ben": ["Elizabeth Tower"]}}')
    return found


def _text(path: Path, flag: str) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {flag} {path}: {error}") from error
