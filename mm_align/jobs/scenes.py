"""`mmalign scenes make`: SceneWorld on disk, scenes with web-like captions, landmarks with facts or films, the truth in every row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ..config import JobConfig, UserError

if TYPE_CHECKING:
    from data_tools.records import Sample

MARK = "sceneworld.json"  # lies in every folder this job made; --overwrite deletes no other
DOMAIN = "domain.json"  # by which reports about these rows know what to call them
SUITE = {"n": 300, "split": "heldout"}  # what is not given with --suite


class ScenesConfig(JobConfig):
    """How many scenes or landmark pictures, from which split, and how they are stored; or benchmarks of them."""

    family: Literal["scenes", "entities", "films"] = Field(
        "scenes",
        description="entities: pictures of landmarks with names, a four-level hierarchy and questions about facts; films: MP4 videos of "
        "objects that come, move and flash up, with questions (jsonl only)",
    )
    world: int = Field(0, description="entities only: another world has other landmarks; seed draws other pictures of the same")
    n: int = Field(1000, ge=1, description="rows")
    out: str = Field(description="folder to write")
    seed: int = Field(0, description="another seed gives other scenes of the same split")
    split: Literal["train", "validation", "heldout"] = Field("train", description="splits never share a scene; heldout breaks the habits")
    format: Literal["jsonl", "parquet", "webdataset"] = Field("jsonl", description="jsonl refers to PNG files in images/")
    poor_share: float = Field(0.5, ge=0, le=1, description="share of captions that are corrupted (scenes only)")
    questions: bool = Field(False, description="each row also gets its questions and answers as a conversation")
    suite: bool = Field(
        False,
        description="in place of rows to train on: benchmarks for `mmalign eval --bench DIR` (300 pictures of the heldout split), "
        "of scenes or entities",
    )
    shard_size: int = Field(10_000, ge=1, description="rows a file")
    overwrite: bool = Field(False, description="replace a folder that this command made before")

    @model_validator(mode="before")
    @classmethod
    def _suite(cls, given: Any) -> Any:
        """What `--suite` says, under what is given."""
        return {**SUITE, **given} if isinstance(given, Mapping) and given.get("suite") else given


@dataclass(frozen=True)
class ScenesReport:
    """What was written."""

    out: Path
    rows: int
    shards: int


def run(config: ScenesConfig) -> ScenesReport:
    """Write the rows. Raises UserError when `out` holds something else."""
    if config.family == "films" and config.format != "jsonl":
        raise UserError(f"films are written as jsonl beside their MP4 files; --format {config.format} holds pictures only")
    if config.suite and config.family == "films":
        raise UserError("--suite makes benchmarks of scenes or entities; films have none: leave --family out")
    out = Path(config.out)
    if not config.overwrite and _earlier(out) == _told(config):
        print(f"these scenes are there already: {out}; --overwrite makes them anew")
        return ScenesReport(out, config.n, len(range(0, config.n, config.shard_size)))
    _make_room(out, config)
    shards = _write_suites(out, config) if config.suite else _write_rows(out, config)
    _write_mark(out, config)
    files = "benchmarks" if config.suite else f"{shards} {config.format} file{'s' * (shards > 1)}"
    print(f"{config.n} {_what(config)} of split {config.split} in {files}: {out}")
    return ScenesReport(out, config.n, shards)


def suites_in(out: Path) -> Path:
    """The folder with the benchmarks of `--suite`, made unless it is there. Raises UserError where it holds something else."""
    config = ScenesConfig.model_validate({"out": str(out), "suite": True})
    if _earlier(out) != _told(config):
        _make_room(out, config)
        _write_suites(out, config)
        _write_mark(out, config)
    return out


def _write_suites(out: Path, config: ScenesConfig) -> int:
    from data_tools.scenes.entity_suites import write_landmark_suites
    from data_tools.scenes.suites import write_suites

    if config.family == "entities":
        write_landmark_suites(out, config.n, config.seed, config.split, config.world)
    else:
        write_suites(out, config.n, config.seed, config.split)
    return 0


def _write_rows(out: Path, config: ScenesConfig) -> int:
    """The number of files that hold the rows."""
    from data_tools.io import extension, write
    from data_tools.scenes.suites import write_vocabulary

    shards = 0
    rows = _rows(config)
    for start in range(0, config.n, config.shard_size):
        with write(out / f"scenes-{shards:05d}{extension(config.format)}", config.format) as writer:
            for _ in range(min(config.shard_size, config.n - start)):
                writer.add(_placed(next(rows), out, config.format))
        shards += 1
    if config.family == "scenes":
        write_vocabulary(out)
    return shards


def _what(config: ScenesConfig) -> str:
    return {"entities": f"landmark pictures of world {config.world}"}.get(config.family, config.family)


def _rows(config: ScenesConfig) -> Iterator[Sample]:
    from data_tools.scenes.conversations import with_conversation
    from data_tools.scenes.entity_rows import entity_rows
    from data_tools.scenes.film_rows import film_rows
    from data_tools.scenes.rows import scene_rows

    rows = {
        "scenes": lambda: scene_rows(config.n, config.seed, config.split, config.poor_share),
        "entities": lambda: entity_rows(config.n, config.seed, config.split, config.world),
        "films": lambda: film_rows(config.n, config.seed, config.split),
    }[config.family]()
    return map(with_conversation, rows) if config.questions else rows


def _placed(sample: Sample, out: Path, format: str) -> Sample:
    """JSONL keeps its pictures and films as files beside it; the other formats hold pictures."""
    if "video" in sample.meta:
        _write_film(sample, out)
        return sample
    if format != "jsonl":
        return sample
    image = sample.images[0]
    path = Path("images") / str(image.path)
    (out / path).parent.mkdir(exist_ok=True)
    (out / path).write_bytes(image.data or b"")
    return replace(sample, meta={**sample.meta, "image": path.as_posix()})


def _write_film(sample: Sample, out: Path) -> None:
    from data_tools.scenes.film_rows import write_mp4
    from data_tools.scenes.films import Film

    path = out / str(sample.meta["video"])
    path.parent.mkdir(exist_ok=True)
    write_mp4(Film.from_dict(sample.meta["sceneworld"]["film"]), path)


def _make_room(out: Path, config: ScenesConfig) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        _refuse_to_replace(out, config)
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from error
    # Marked before the first row, so that a killed run can be made anew.
    _write_mark(out, config, finished=False)


def _refuse_to_replace(out: Path, config: ScenesConfig) -> None:
    """An unfinished folder of the same settings is made anew, a finished one of others only when asked, a foreign one never."""
    earlier = _earlier(out)
    if earlier is None:
        raise UserError(f"--out {out} is not empty and was not made by `mmalign scenes make`; name another folder")
    wanted = _told(config)
    if config.overwrite or earlier == wanted | {"finished": False}:
        return
    changed = ", ".join(f"{key}: was {earlier.get(key)!r}, now {value!r}" for key, value in wanted.items() if earlier.get(key) != value)
    raise UserError(f"--out {out} holds other scenes ({changed}); --overwrite replaces them")


def _earlier(out: Path) -> dict[str, Any] | None:
    """What the mark in `out` says, or None where there is no readable one."""
    try:
        told = json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _told(config: ScenesConfig, finished: bool = True) -> dict[str, Any]:
    from data_tools.scenes import entities, films, spec

    version = {"scenes": spec.SPEC["version"], "entities": entities.SPEC["version"], "films": films.VERSION}[config.family]
    unsaid = {"scenes": {"family", "world"}, "entities": {"poor_share"}, "films": {"poor_share", "world"}}[
        config.family
    ]  # folders made before there were families are known
    unsaid = unsaid if config.suite else {*unsaid, "suite"}
    told = config.model_dump(mode="json", exclude={"out", "overwrite", *unsaid})
    return {"sceneworld": version, "finished": finished, **told}


def _write_mark(out: Path, config: ScenesConfig, finished: bool = True) -> None:
    (out / DOMAIN).write_text(json.dumps({"name": "SceneWorld"}) + "\n", encoding="utf-8")
    (out / MARK).write_text(json.dumps(_told(config, finished), indent=1) + "\n", encoding="utf-8")
