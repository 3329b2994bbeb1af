"""`mmalign vision landmarks`: Google Landmarks v2 as rows to train on, each picture with its names from coarse to fine."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from ...config import JobConfig, UserError
from ..own_folder import OwnFolder

ROWS = "landmarks.jsonl"


class LandmarksConfig(JobConfig):
    """The data set's own files, and where its pictures lie."""

    images_csv: Path = Field(description="train_clean.csv, or a csv of id and landmark_id", json_schema_extra={"positional": True})
    hierarchy: Path = Field(description="train_label_to_hierarchical.csv")
    images: Path = Field(description="folder of the split's pictures, which lie in it as a/b/c/abc....jpg")
    out: Path = Field(description="folder to write")
    attribution: Path | None = Field(None, description="train_attribution.csv: author and licence go along in each row")
    per_landmark: int | None = Field(None, ge=1, description="at most so many pictures of a landmark, chosen by hash")
    limit: int | None = Field(None, ge=1, description="stop after so many rows")
    seed: int = Field(0, description="of the choice and the wordings")
    overwrite: bool = Field(False, description="replace a folder that this command made before")


def run(config: LandmarksConfig) -> dict[str, Any]:
    """Write landmarks.jsonl, and the pictures that cannot be used to quarantine/. Raises UserError."""
    from data_tools.io import SourceError

    out = OwnFolder(config.out.expanduser(), "vision landmarks", "landmarks.json")
    if out.holds(settings(config), overwrite=config.overwrite):
        print(f"{config.out} already holds these landmarks; --overwrite makes them anew")
        return out.summary()
    if not config.images.expanduser().is_dir():
        raise UserError(f"--images {config.images} is no folder; give the folder that the split's tar files were extracted to")
    try:
        with out.filling() as folder:
            summary = _write(config, folder)
            out.finish(folder, summary)
    except SourceError as error:
        raise UserError(str(error)) from error
    print("\n".join([*_told(summary), f"written to {config.out}"]))
    return summary


def _write(config: LandmarksConfig, folder: Path) -> dict[str, Any]:
    from data_tools.io import write, write_manifest
    from data_tools.landmarks import read_hierarchy, read_landmarks
    from data_tools.records import Rejected

    hierarchy = read_hierarchy(config.hierarchy.expanduser())
    images = config.images.expanduser().resolve()
    credits_csv = config.attribution.expanduser() if config.attribution else None
    found = read_landmarks(
        config.images_csv.expanduser(), hierarchy, images, credits_csv=credits_csv, per_landmark=config.per_landmark, seed=config.seed
    )
    entities: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    (folder / "quarantine").mkdir()
    with write(folder / ROWS, "jsonl") as writer, (folder / "quarantine" / ROWS).open("w", encoding="utf-8") as quarantine:
        for item in found:
            if isinstance(item, Rejected):
                gone[item.reason] += 1
                quarantine.write(json.dumps(item.to_dict(), ensure_ascii=False) + "\n")
                continue
            writer.add(item)
            entities[item.meta["landmark_id"]] += 1
            if entities.total() == config.limit:
                break
    if not entities:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in gone.most_common()) or "it lists none"
        raise UserError(f"no picture of {config.images_csv} could be used: {reasons}; check --images {config.images}")
    write_manifest(folder, str(images), "jsonl")
    levels = [*hierarchy.order, "landmark"]
    return {
        "settings": settings(config),
        "rows": entities.total(),
        "landmarks": len(entities),
        "quarantined": dict(gone.most_common()),
        "levels": levels,
        "classes": {level: hierarchy.classes.get(level, len(hierarchy.landmarks)) for level in levels},
    }


def _told(summary: dict[str, Any]) -> list[str]:
    levels = " > ".join(f"{level} ({summary['classes'][level]})" for level in summary["levels"])
    gone = ", ".join(f"{n} x {reason}" for reason, n in summary["quarantined"].items())
    return [
        f"{summary['rows']} pictures of {summary['landmarks']} landmarks; levels and their classes: {levels}",
        *([f"left out, reasons in quarantine/: {gone}"] if gone else []),
    ]


def settings(config: LandmarksConfig) -> dict[str, Any]:
    """What the rows depend on."""
    return config.model_dump(mode="json", exclude={"out", "overwrite"})
