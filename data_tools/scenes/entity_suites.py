"""SceneWorld's landmarks as benchmarks: fresh pictures are asked "What is this?", and the answer is looked at on three levels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from .entities import LEVELS, Entity, landmarks
from .entity_rows import CAPTIONS, entity_rows
from .suites import SUITES, TITLE

ASKED = ("entity", "family", "kind")  # levels, fine to coarse; of 108, 18 and 6 one is right


def write_landmark_suites(folder: Path, n: int, seed: int, split: str, world: int) -> None:
    """`n` pictures of a split in `folder`, a file of questions for each level, and `suites.yaml`. Every split shows all landmarks, so
    pictures are new to a model that was taught with another split, names are not."""
    (folder / "images").mkdir(exist_ok=True)
    entities = landmarks(world)
    files = {level: (folder / f"{level}.jsonl").open("w", encoding="utf-8") for level in ASKED}
    for sample in entity_rows(n, seed, split, world):
        picture = sample.images[0]
        (folder / "images" / str(picture.path)).write_bytes(picture.data or b"")
        for level, row in question_rows(sample.id, str(picture.path), sample.meta["entity"]["levels"], entities):
            files[level].write(json.dumps(row) + "\n")
    for file in files.values():
        file.close()
    (folder / SUITES).write_text(yaml.safe_dump(described(), sort_keys=False), encoding="utf-8")


def described() -> dict[str, Any]:
    """The suites as `mmalign eval` reads them; paths start from the folder. A landmark's pictures are drawn together for intervals."""
    return {
        "title": TITLE,
        "benchmarks": [
            {"name": f"landmarks-{level}", "type": "qa", "shows": ["accuracy"], "data": f"{level}.jsonl", "group": "entity"}
            for level in ASKED
        ],
    }


def question_rows(id: str, image: str, levels: Sequence[str], entities: Sequence[Entity]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row a level: right is every name that is of the same family or kind, said alone or as the rows' captions say it."""
    for level in ASKED:
        at = LEVELS.index(level)
        right = [phrase for one in entities if one.levels[at] == levels[at] for phrase in phrases(one)]
        asked = {"id": id, "image": f"images/{image}", "question": "What is this?", "answers": right}
        yield level, {**asked, "kind": levels[0], "entity": levels[-1]}


def phrases(entity: Entity) -> list[str]:
    """What a model that was taught with the rows' captions says of a landmark."""
    family = entity.levels[LEVELS.index("family")]
    return [entity.name, *(caption.format(name=entity.name, family=family) for caption in CAPTIONS)]
