"""Google Landmarks v2 metadata and a folder of its pictures -> samples with caption, questions and a hierarchy of names.

The columns are the data set's own (github.com/cvdfoundation/google-landmark); the order of levels, the sentences and the questions are
this toolkit's choice, since the paper's multi-granularity data (MGLD) is not released.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .io import SourceError
from .io.conversations import conversation
from .records import Image, Rejected, Sample, Source

LEVELS = ("natural_or_human_made", "hierarchical_label", "supercategory")  # of which the file's class counts give the order
MISSING = frozenset({"", "none", "nan", "null", "unknown"})
IMAGE_ID = re.compile(r"[0-9A-Za-z_-]{3,64}")  # it becomes a path
CREDITS = ("url", "author", "license", "title")


@dataclass(frozen=True, slots=True)
class Landmark:
    """One entity: `labels` by column, only the known ones."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """`landmarks` by id. `order`: the columns from coarse to fine, `classes` how many classes each has."""

    landmarks: Mapping[str, Landmark]
    order: tuple[str, ...]
    classes: Mapping[str, int]

    def levels(self, landmark: Landmark) -> list[str | None]:
        """Coarse to fine, None where unknown; the last one is the landmark itself."""
        return [*(landmark.labels.get(column) for column in self.order), landmark.name]


def read_hierarchy(path: str | Path) -> Hierarchy:
    """`train_label_to_hierarchical.csv` or index's: landmark_id, category, supercategory, hierarchical_label, natural_or_human_made.

    Columns of levels may be missing, as in `train_label_to_category.csv`. Levels stand in the order of their class counts
    (ties: as in `LEVELS`). Raises SourceError for a file without the other columns, for ids told twice, or without rows.
    """
    landmarks: dict[str, Landmark] = {}
    for number, row in enumerate(_rows(path, ("landmark_id", "category"))):
        key = (row["landmark_id"] or "").strip()
        if key in landmarks:
            raise SourceError(f"{path}: row {number} tells landmark_id {key} a second time; use the file as it was downloaded")
        labels = {column: text for column in LEVELS if (text := _label(row.get(column))) is not None}
        landmarks[key] = Landmark(name_of(row["category"] or ""), labels)
    if not landmarks:
        raise SourceError(f"{path} has a header and no landmark")
    classes = {column: len({m.labels[column] for m in landmarks.values() if column in m.labels}) for column in LEVELS}
    order = tuple(sorted((column for column in LEVELS if classes[column]), key=lambda column: classes[column]))
    return Hierarchy(landmarks, order, classes)


def _label(text: str | None) -> str | None:
    text = (text or "").strip()
    return None if text.lower() in MISSING else text


def name_of(category: str) -> str:
    """ "http://commons.wikimedia.org/wiki/Category:Eiffel_Tower" -> "Eiffel Tower"; "" where there is no name."""
    last = category.strip().rpartition("/wiki/")[2].removeprefix("Category:")
    return " ".join(unquote(last).replace("_", " ").split())


def read_landmarks(
    images_csv: str | Path,
    hierarchy: Hierarchy,
    folder: str | Path,
    *,
    credits_csv: str | Path | None = None,
    per_landmark: int | None = None,
    seed: int = 0,
) -> Iterator[Sample | Rejected]:
    """A sample for each picture that the csv lists and `folder` holds as a/b/c/abc....jpg; Rejected, with a reason, for the others.

    images_csv: `train_clean.csv` (landmark_id, images separated by spaces) or one row a picture (id, landmark_id: `train.csv`,
    `index_image_to_landmark.csv`). credits_csv: `train_attribution.csv`; author and licence go along in `meta`.
    per_landmark: at most so many pictures of a landmark, chosen by a hash of seed and id among those that are there. Row
    numbers count pictures, in the order of the file. Raises SourceError for a file of other columns.

    `meta` is the row to write: id, image, caption, conversations (LLaVA's form), entity {"name", "levels"}, landmark_id, credits.
    """
    folder = Path(folder)
    credits = _credits(credits_csv, images_csv) if credits_csv is not None else {}
    taken: set[str] = set()
    row = 0
    for landmark_id, ids in _groups(images_csv):
        here: list[tuple[Source, str]] = []
        for image_id in ids:
            source = Source(Path(images_csv).name, row, "landmarks", "caption", ("image",), "id")
            row += 1
            reason, detail = _problem(image_id, landmark_id, hierarchy, folder, taken)
            if reason:
                yield Rejected(source, reason, detail, f"{landmark_id},{image_id}"[:2000])
                continue
            taken.add(image_id)
            here.append((source, image_id))
        for source, image_id in _some(here, per_landmark, seed):
            yield _sample(source, image_id, landmark_id, hierarchy, folder, credits.get(image_id, {}), seed)


def _some(found: list[tuple[Source, str]], most: int | None, seed: int) -> list[tuple[Source, str]]:
    if most is None or len(found) <= most:
        return found
    chosen = sorted(found, key=lambda pair: _hash(seed, pair[1]))[:most]
    return sorted(chosen, key=lambda pair: pair[0].row)


def _problem(image_id: str, landmark_id: str, hierarchy: Hierarchy, folder: Path, taken: set[str]) -> tuple[str, str]:
    landmark = hierarchy.landmarks.get(landmark_id)
    if landmark is None:
        return "unknown_landmark", f"landmark_id {landmark_id[:80]!r} is not in the hierarchy file"
    if not landmark.name:
        return "missing_entity", f"the category of landmark {landmark_id} names nothing"
    if not IMAGE_ID.fullmatch(image_id):
        return "bad_id", f"a picture's id should be letters and digits, found {image_id[:80]!r}"
    if image_id in taken:
        return "duplicate_id", f"the picture {image_id} was listed before"
    if not (folder / place_of(image_id)).is_file():
        return "image_missing", f"no file {folder / place_of(image_id)}; pictures lie as a/b/c/abc....jpg under the image folder"
    return "", ""


def place_of(image_id: str) -> str:
    """Where a picture lies under its split's folder: "0123456789abcdef" -> "0/1/2/0123456789abcdef.jpg"."""
    return f"{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"


def _sample(
    source: Source, image_id: str, landmark_id: str, hierarchy: Hierarchy, folder: Path, credit: Mapping[str, str], seed: int
) -> Sample:
    landmark = hierarchy.landmarks[landmark_id]
    caption = caption_of(landmark, _hash(seed, image_id))
    turns = questions_of(landmark, hierarchy.order, _hash(seed, image_id))
    row: dict[str, Any] = {
        "id": image_id,
        "image": place_of(image_id),
        "caption": caption,
        "conversations": turns,
        "entity": {"name": landmark.name, "levels": hierarchy.levels(landmark)},
        "landmark_id": landmark_id,
        **credit,
    }
    return Sample(image_id, conversation(turns, 1), (Image(str(folder / place_of(image_id))),), caption, source, row)


def _hash(seed: int, image_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{image_id}".encode()).digest()[:8], "big")


# Words


CAPTIONS = ("This is {name}{kind}.", "The picture shows {name}{kind}.", "{name}{kind}.", "A photo of {name}{kind}.")
NAME_QUESTIONS = ("Which landmark is this?", "What is the name of this place?", "What landmark does the picture show?")
QUESTIONS = {
    "supercategory": ("What type of landmark is it?", "What is it, in a word or two?"),
    "hierarchical_label": ("Which class of landmarks does it belong to?", "What broader kind of place is it?"),
    "natural_or_human_made": ("Is it natural or human-made?", "Was it made by nature or by people?"),
}


def caption_of(landmark: Landmark, number: int) -> str:
    """One sentence with the name and the finest known type; `number` chooses the wording."""
    kind = landmark.labels.get("supercategory") or landmark.labels.get("hierarchical_label")
    return CAPTIONS[number % len(CAPTIONS)].format(name=landmark.name, kind=f", {_article(kind)} {kind}" if kind else "")


def _article(noun: str) -> str:
    return "an" if noun[:1].lower() in "aeiou" else "a"


def questions_of(landmark: Landmark, order: Sequence[str], number: int) -> list[dict[str, str]]:
    """LLaVA turns: the name, then each known level from fine to coarse; a label that was just said is not asked again."""
    asked = [(NAME_QUESTIONS[number % len(NAME_QUESTIONS)], landmark.name)]
    for column in reversed(order):
        label = landmark.labels.get(column)
        if label is not None and label != asked[-1][1]:
            asked.append((QUESTIONS[column][number % len(QUESTIONS[column])], label))
    turns = [turn for question, answer in asked for turn in ({"from": "human", "value": question}, {"from": "gpt", "value": answer})]
    return [{"from": "human", "value": f"<image>\n{asked[0][0]}"}, *turns[1:]]


# Files


def _groups(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """(landmark_id, ids of pictures), of either form of csv."""
    for row in _rows(path, ("landmark_id",), ("images", "id")):
        listed = row.get("images")
        yield (row["landmark_id"] or "").strip(), (listed.split() if listed is not None else [(row.get("id") or "").strip()])


def _credits(path: str | Path, images_csv: str | Path) -> dict[str, dict[str, str]]:
    """Author, licence, title and address of the pictures that `images_csv` lists."""
    wanted = {image_id for _, ids in _groups(images_csv) for image_id in ids}
    return {row["id"]: {key: row[key] for key in CREDITS if row.get(key)} for row in _rows(path, ("id", "license")) if row["id"] in wanted}


def _rows(path: str | Path, needed: Iterable[str], one_of: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """The rows of a csv with a header. Raises SourceError when it cannot be read or lacks a column."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="more", restval="")
            found = list(reader.fieldnames or [])
            lacking = [column for column in needed if column not in found]
            if lacking or (one_of and not set(one_of) & set(found)):
                expected = ", ".join([*needed, *([" or ".join(one_of)] if one_of else [])])
                raise SourceError(
                    f"{path} should be a csv with the columns {expected}; its first line has {', '.join(found)[:200] or 'nothing'}"
                )
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"cannot read {path} as a csv in UTF-8: {error}") from error
