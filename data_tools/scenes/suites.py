"""SceneWorld as benchmarks: what POPE, CHAIR and AMBER ask of photographs, asked of drawn scenes, as data files of ordinary benchmarks."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .captions import Mention, noun_phrase
from .rows import make_row, png
from .spec import COLORS, SHAPES
from .world import HABITS, Scene

SUITES = "suites.yaml"
VOCABULARY = "vocabulary.json"
TITLE = "SceneWorld"
ASKED = 3  # of what is there, and of what is not, about each picture, as POPE does
KINDS = ("existence", "attribute", "count", "relation")  # AMBER's; its "state" and "action" have no counterpart here
COMPANIONS = {trigger[0]: companion for trigger, companion in HABITS.items()}  # one habit a colour

Pair = tuple[str, str]  # colour and shape


class Pictured(NamedTuple):
    """A scene, its file, and the row that SceneWorld makes of it."""

    id: str
    image: str
    scene: Scene
    truth: Mapping[str, Any]

    @property
    def there(self) -> list[Pair]:
        """Its kinds of objects, each once."""
        return list(dict.fromkeys((item.color, item.shape) for item in self.scene.items))


def write_suites(folder: Path, n: int, seed: int, split: str) -> None:
    """`n` pictures of a split in `folder`, the questions about them, and `suites.yaml`, which says which benchmark reads which file."""
    pictures = [_pictured(seed, split, index) for index in range(n)]
    (folder / "images").mkdir(exist_ok=True)
    (folder / "pope").mkdir(exist_ok=True)
    for one in pictures:
        (folder / "images" / one.image).write_bytes(png(one.scene))
    for name, absent in choosers(pictures).items():
        _write(folder / "pope" / f"scenes_pope_{name}.json", existence_rows(pictures, absent, seed))
    _write(folder / "yes_no.jsonl", yes_no_rows(pictures))
    _write(folder / "pictures.jsonl", object_rows(pictures))
    write_vocabulary(folder)
    (folder / SUITES).write_text(yaml.safe_dump(described(), sort_keys=False), encoding="utf-8")


def described() -> dict[str, Any]:
    """The suites as `mmalign eval` reads them; paths start from the folder."""
    objects = {"type": "objects", "data": "pictures.jsonl", "vocabulary": VOCABULARY, "counted": True, "max_tokens": 160}
    return {
        "title": TITLE,
        "benchmarks": [
            {"name": "scenes-pope", "type": "pope", "data": "pope", "images": "images"},
            {
                "name": "scenes-amber",
                "type": "qa",
                "data": "yes_no.jsonl",
                "group": "image",
                "prompt": "{question} Please answer yes or no.",
            },
            {"name": "scenes-chair", "shows": ["hallucinating", "invented", "coverage"], **objects},
            {"name": "scenes-captions", "shows": ["f1"], **objects, "prompt": "Describe the image briefly."},
        ],
    }


def write_vocabulary(folder: Path) -> None:
    """Every kind of object that scenes can hold, for the benchmark `objects`."""
    kinds = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    (folder / VOCABULARY).write_text(json.dumps(kinds, indent=1) + "\n", encoding="utf-8")


def _pictured(seed: int, split: str, index: int) -> Pictured:
    row, made = make_row(seed, split, index, poor_share=0)
    return Pictured(row["id"], f"{row['id']}.png", made.scene, row["sceneworld"])


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# Is there such an object?

Chooser = Callable[[Pictured, random.Random], list[Pair]]


def choosers(pictures: Sequence[Pictured]) -> dict[str, Chooser]:
    """What is asked of that is not there, the first first, by POPE's three rules: drawn at random; what most pictures show; what goes
    with what is there, which in SceneWorld is habit (the held-out split never shows a habitual pair) and, behind it, what shares a
    colour or a shape with it."""
    every = [(color, shape) for color in COLORS for shape in SHAPES]
    seen = Counter(pair for one in pictures for pair in one.there)
    popular = sorted(every, key=lambda pair: -seen[pair])

    def adversarial(one: Pictured, rng: random.Random) -> list[Pair]:
        there = one.there
        habitual = [COMPANIONS[color] for color, _ in there]
        kindred = [pair for pair in popular if any(pair[0] == color for color, _ in there) and any(pair[1] == shape for _, shape in there)]
        return [*habitual, *kindred, *popular]

    return {
        "random": lambda one, rng: rng.sample(every, len(every)),
        "popular": lambda one, rng: popular,
        "adversarial": adversarial,
    }


def existence_rows(pictures: Sequence[Pictured], absent: Chooser, seed: int) -> Iterator[dict[str, Any]]:
    """POPE's rows: up to three things that are there and as many that are not, in turn. The first are the same by every rule."""
    number = 0
    for one in pictures:
        rng = random.Random(f"pope-{seed}-{one.id}")
        yes = rng.sample(one.there, min(ASKED, len(one.there)))
        no = list(dict.fromkeys(pair for pair in absent(one, rng) if pair not in one.there))[: len(yes)]
        for present, missing in zip(yes, no, strict=True):
            for (color, shape), label in ((present, "yes"), (missing, "no")):
                number += 1
                asked = f"Is there {noun_phrase(Mention(shape, color))} in the image?"
                yield {"question_id": number, "image": one.image, "text": asked, "label": label}


# Questions and objects


def yes_no_rows(pictures: Sequence[Pictured]) -> Iterator[dict[str, Any]]:
    """Questions of the kinds that AMBER asks, as many with the answer yes as with no."""
    for one in pictures:
        asked = [q for q in one.truth["questions"] if q["type"] == "yes_no" and q["kind"] in KINDS]
        for at, q in enumerate(asked):
            told = {"kind": q["kind"], "question": q["question"], "answer": q["answer"]}
            yield {"id": f"{one.id}-{at}", "image": f"images/{one.image}", **told}


def object_rows(pictures: Sequence[Pictured]) -> Iterator[dict[str, Any]]:
    """Pictures with the objects that are there; two alike are listed twice."""
    for one in pictures:
        yield {"id": one.id, "image": f"images/{one.image}", "objects": [f"{item.color} {item.shape}" for item in one.scene.items]}
