"""COCO's eighty classes in captions: synonyms, two-word phrases, and which classes an image has, by its annotations; CHAIR's rules."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .answers import parse_json

ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
VEHICLES = ("jet", "train")
# An animal's age and a vehicle's passengers are no persons; the last two are what singularising leaves of their words.
PHRASES = {
    **{f"{age} {animal}": animal for animal in ANIMALS for age in ("baby", "adult")},
    **{f"passenger {vehicle}": vehicle for vehicle in VEHICLES},
    **{"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"},
}


class Mention(NamedTuple):
    """A word of the synonyms in a caption: its class, and the place upstream gives it (wrong behind a dropped "seat")."""

    word: str
    name: str
    place: int


class Scanned(NamedTuple):
    """A caption's tokens after two-word phrases were joined, and the mentions of classes among them."""

    tokens: list[str]
    mentions: list[Mention]


class Vocabulary:
    """classes: of each synonym. phrases: two-word phrases and the token that each becomes."""

    def __init__(self, classes: Mapping[str, str], phrases: Mapping[str, str]) -> None:
        self.classes = dict(classes)
        self.phrases: dict[str, dict[str, str]] = {}
        for phrase, token in phrases.items():
            first, _, second = phrase.partition(" ")
            self.phrases.setdefault(first, {})[second] = token

    @property
    def words(self) -> frozenset[str]:
        """All words that mentions and phrases are made of."""
        return frozenset([*self.classes, *self.phrases, *(second for seconds in self.phrases.values() for second in seconds)])

    def scan(self, words: Sequence[str]) -> Scanned:
        """Join phrases from the left, drop "seat" beside "toilet", keep synonyms."""
        tokens, places = self._joined(words)
        return Scanned(tokens, self.mentions(tokens, places))

    def mentions(self, tokens: Sequence[str], places: Sequence[int]) -> list[Mention]:
        """The synonyms among tokens, "seat" left out beside "toilet"; places are those of all tokens, as upstream has it."""
        kept = tokens
        if "toilet" in tokens and "seat" in tokens:
            kept = [token for token in tokens if token != "seat"]
        classes = self.classes
        return [Mention(token, classes[token], places[at]) for at, token in enumerate(kept) if token in classes]

    def phrases_only(self, words: Sequence[str]) -> list[str]:
        """The tokens of the two-word phrases among `words`."""
        return [token for _, token in self._phrases(words)]

    def _joined(self, words: Sequence[str]) -> tuple[list[str], Sequence[int]]:
        found = list(self._phrases(words))
        if not found:
            return list(words), range(len(words))
        tokens: list[str] = []
        places: list[int] = []
        start = 0
        for at, token in found:
            tokens += [*words[start:at], token]
            places += range(start, at + 1)
            start = at + 2
        return [*tokens, *words[start:]], [*places, *range(start, len(words))]

    def _phrases(self, words: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Where a two-word phrase begins, from the left and without overlap, and the token that it becomes."""
        phrases, free = self.phrases, 0
        for at in () if phrases.keys().isdisjoint(words) else [at for at, word in enumerate(words) if word in phrases]:
            token = phrases[words[at]].get(words[at + 1]) if free <= at < len(words) - 1 else None
            if token is not None:
                yield at, token
                free = at + 2


def synonyms(text: str, *, strip: bool) -> dict[str, str]:
    """The class of each word of a synonym file: a class a line, its first word. strip: also around each word (CHAIR's own script
    does not: two of its synonyms keep a leading blank, which no token has)."""
    found = {}
    for line in text.splitlines():
        words = line.strip().split(", ")
        words = [word.strip() for word in words] if strip else words
        found.update(dict.fromkeys(words, words[0]))
    return found


# -- which classes an image has ----------------------------------------------------------------------------------------

Truth = dict[int, frozenset[str]]


def read_truth(path: Path, wanted: Collection[int] | None = None) -> Truth:
    """Classes by image id from a JSON object, {"139": ["chair", ...]}, or its gzip. wanted: only these images.

    ValueError for a file of something else.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
        swept = None if wanted is None else _swept(text, wanted)
        if swept is not None:
            return swept
        found = json.loads(text)
        return {int(image): frozenset(classes) for image, classes in found.items() if wanted is None or int(image) in wanted}
    except (ValueError, AttributeError, TypeError, EOFError, gzip.BadGzipFile, RecursionError) as error:
        raise ValueError(f"{path} is no ground truth: expected a JSON object of classes by image id ({error})") from error


def _swept(text: str, wanted: Collection[int]) -> Truth | None:
    """The entries of the images `wanted`, found in one sweep, which takes a tenth of the time of parsing all 123,287; None if one
    is not found, as in a file that is not in the order of its images."""
    found: Truth = {}
    at = 0
    for image in sorted(wanted):
        at = text.find(f'"{image}":[', at)
        if at < 0:
            return None
        start = text.index("[", at)
        found[image] = frozenset(json.loads(text[start : text.index("]", start) + 1]))
    return found


def annotation_files(root: Path) -> tuple[list[Path], list[Path]]:
    """The instances_*.json and captions_*.json of a folder or of the first folder below it; those of 2014 if there are any."""
    found = sorted(root.glob("instances_*.json")) or sorted(root.rglob("instances_*.json"))
    beside = [path for path in found if path.parent == found[0].parent]
    instances = [path for path in beside if path.stem.endswith("2014")] or beside
    captions = [path.with_name(path.name.replace("instances_", "captions_", 1)) for path in instances]
    return instances, [path for path in captions if path.is_file()]


def build_truth(root: Path, vocabulary: Vocabulary, words: Callable[[str], Sequence[str]], wanted: Collection[int] | None = None) -> Truth:
    """Classes by image id from COCO's annotations: those of its instances, and those that `words` finds in its captions.

    wanted: only these images. ValueError that says what is missing.
    """
    instances, captions = annotation_files(root)
    if not captions:
        found = f"{instances[0].name} without its captions" if instances else "none of them"
        where = "they come from annotations_trainval2014.zip of https://cocodataset.org"
        raise ValueError(f"{root}: expected COCO's instances_*.json and captions_*.json, found {found}; {where}")
    classes: dict[int, set[str]] = {}
    for image, name in _instances(instances, vocabulary, wanted):
        classes.setdefault(image, set()).add(name)
    for path in captions:
        for note in _annotations(path, ("image_id", "caption")):
            if wanted is None or note["image_id"] in wanted:
                mentions = vocabulary.scan(words(note["caption"])).mentions
                classes.setdefault(note["image_id"], set()).update(mention.name for mention in mentions)
    return {image: frozenset(names) for image, names in classes.items()}


def _instances(paths: Iterable[Path], vocabulary: Vocabulary, wanted: Collection[int] | None) -> Iterator[tuple[int, str]]:
    for path in paths:
        content = _document(path)
        names = {category["id"]: category["name"] for category in content.get("categories", ())}
        if unknown := sorted(set(names.values()) - vocabulary.classes.keys()):
            raise ValueError(f"{path}: category '{unknown[0]}' is no synonym of COCO's classes")
        for note in _annotations(path, ("image_id", "category_id"), content):
            if wanted is None or note["image_id"] in wanted:
                yield note["image_id"], vocabulary.classes[names[note["category_id"]]]


def _annotations(path: Path, fields: Sequence[str], content: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    notes = (_document(path) if content is None else content).get("annotations")
    if not isinstance(notes, list) or not all(name in note for note in notes[:1] for name in fields):
        raise ValueError(f"{path} is no COCO annotation file: expected `annotations` with {' and '.join(fields)}")
    return notes


def _document(path: Path) -> dict[str, Any]:
    content = parse_json(path.read_bytes(), path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no COCO annotation file: expected an object with `annotations`")
    return content


def image_files(root: Path) -> dict[int, str]:
    """The file name of each image that COCO's annotations under a folder list, in their order; none if there are no such files."""
    instances, _ = annotation_files(root)
    rows = (image for path in instances for image in _document(path).get("images", ()))
    return {image["id"]: image.get("file_name", coco_name(image["id"])) for image in rows}


def coco_name(image: int) -> str:
    return f"COCO_val2014_{image:012d}.jpg"


def sample_ids(images: Sequence[Any]) -> list[str]:
    """Ids of samples, one an image; of an image's later rows with their number."""
    seen: dict[str, int] = {}
    found = []
    for image in map(str, images):
        seen[image] = seen.get(image, 0) + 1
        found.append(image if seen[image] == 1 else f"{image}#{seen[image]}")
    return found
