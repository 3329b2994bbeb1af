"""Objects in descriptions: which of those that are there a response names, and which it invents (in the spirit of CHAIR)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Message, Part, Response, Sample
from data_tools.text.phrases import Entry, Phrases

from .base import Benchmark, Judged, check_known
from .intervals import Interval, bootstrap
from .rows import rows_to_ask

DESCRIBE = "Describe the image in detail."
NOTHING = Interval(0.0, 0.0, 0.0)


class Picture(NamedTuple):
    """What is asked about one picture, how many of which things are on it, and the group it is drawn with in intervals."""

    sample: Sample
    there: Counter[str]
    group: str


class Told(NamedTuple):
    """What one response names: mentions of things of the vocabulary, of them those of things that are not there; of the `truth`
    things that are there, those it names; its words. A sample without a response is not `answered`."""

    mentions: int
    invented: int
    named: int
    truth: int
    words: int
    answered: bool = True

    @property
    def fails(self) -> bool:
        """Whether it names something that is not there, or says nothing because there is no response."""
        return self.invented > 0 or not self.answered


class ObjectsBenchmark(Benchmark):
    """Pictures to describe, with what is on them, in any format that `data_tools.io` reads.

    objects: the field with the phrases of what is there, a list; an entry may be a list of synonyms. question: the field with
    what is asked; a row without it is asked `prompt`. The vocabulary, which is all that is looked for, are the objects of all rows,
    the phrases in the fields `others` of all rows, and those of `vocabulary`: a list, or a file (JSON: a list of entries; other
    text: an entry a line, synonyms between commas, as CHAIR's). Names of fields may have dots (`truth.objects`). How phrases are
    found: `data_tools.text.phrases`. counted: a thing is there as often as it is listed, and mentions beyond that are invented;
    for descriptions that name each object once (otherwise a thing may be mentioned at will). max_tokens: longest answer. group:
    the field of what rows share when intervals are drawn. Further options are those of `data_tools.io.read`.

    Metrics: `hallucinating`, the share of responses that name something which is not there; `invented`, the share of such mentions
    among all mentions; `coverage`, the share of the things there are that are named; each with its 95 % bootstrap interval, `_low`
    and `_high`; `f1`, the harmonic mean of 1 - invented and coverage; `naming`, the share of responses that name anything (Object
    HalBench divides by their number: hallucinating / naming); `words`, the mean length of responses; `rows`; `unanswered`, rows
    without a response (they count as hallucinating and as naming nothing). ValueError for rows that cannot be asked.
    """

    main = "hallucinating"
    needs = "rows with a picture and a list of what is on it, in any format (data)"
    lower = frozenset(f"{name}{end}" for name in ("hallucinating", "invented") for end in ("", "_low", "_high"))

    def __init__(
        self,
        data: str,
        *,
        question: str = "question",
        prompt: str = DESCRIBE,
        objects: str = "objects",
        others: list[str] = ["distractors", "vocabulary"],  # noqa: B006 - never changed
        vocabulary: str | list[str | list[str]] | None = None,
        counted: bool = False,
        max_tokens: int = 512,
        group: str | None = None,
        image_key: str | None = None,
        image_root: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.sampling = Sampling(max_tokens=max_tokens)
        self.data, self.question, self.prompt, self.objects, self.others = data, question, prompt, objects, tuple(others)
        self.vocabulary, self.counted, self.group = vocabulary, counted, group
        self.image_key, self.image_root, self.limit = image_key, image_root, limit

    @cached_property
    def rows(self) -> tuple[Sample, ...]:
        """All rows, read once. Pictures are not decoded."""
        options = {"caption_key": self.question, "image_key": self.image_key, "image_root": self.image_root}
        return tuple(rows_to_ask(self.data, limit=self.limit, caption_optional=True, **options))

    @cached_property
    def phrases(self) -> Phrases:
        """The vocabulary."""
        given = entries_of(self.vocabulary)
        told = (entry for row in self.rows for name in (self.objects, *self.others) for entry in entries_in(row, name))
        return Phrases(dict.fromkeys(entry if isinstance(entry, str) else tuple(entry) for entry in [*given, *told]))

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(self._picture(row) for row in self.rows)

    def samples(self) -> list[Sample]:
        return [picture.sample for picture in self.pictures]

    def told(self, responses: Mapping[str, Response]) -> list[Told]:
        """What each response names, in the order of the rows."""
        check_known(responses, (picture.sample.id for picture in self.pictures))
        return [self._told(picture, responses.get(picture.sample.id)) for picture in self.pictures]

    def judged(self, responses: Mapping[str, Response]) -> list[Judged]:
        """1 for a response that hallucinates, else 0, in the order of the rows: what paired differences are made of."""
        told = self.told(responses)
        return [Judged(picture.sample.id, float(one.fails)) for picture, one in zip(self.pictures, told, strict=True)]

    def score(self, responses: Mapping[str, Response]) -> dict[str, float]:
        told = self.told(responses)
        groups = [picture.group or picture.sample.id for picture in self.pictures]
        shares = {
            "hallucinating": bootstrap([float(one.fails) for one in told], groups),
            "invented": share([(one.invented, one.mentions) for one in told], groups),
            "coverage": share([(one.named, one.truth) for one in told], groups),
        }
        answered = [one for one in told if one.answered]
        metrics = {f"{name}{end}": value for name, found in shares.items() for end, value in zip(("", "_low", "_high"), found, strict=True)}
        return metrics | {
            "f1": harmonic(1 - metrics["invented"], metrics["coverage"]),
            "naming": sum(one.mentions > 0 for one in told) / len(told),
            "words": sum(one.words for one in answered) / max(1, len(answered)),
            "rows": len(told),
            "unanswered": len(told) - len(answered),
        }

    def _picture(self, row: Sample) -> Picture:
        there = entries_in(row, self.objects, needed=True)
        names = (self.phrases.name(entry if isinstance(entry, str) else entry[0]) for entry in there)
        counts = Counter(name for name in names if name is not None)
        asked = (*[Part("image") for _ in row.images], Part("text", row.caption or self.prompt))
        sample = Sample(row.id, (Message("user", asked),), row.images, source=row.source, meta=row.meta)
        group = str(field(row, self.group)) if self.group else ""
        return Picture(sample, counts if self.counted else Counter(set(counts)), group)

    def _told(self, picture: Picture, response: Response | None) -> Told:
        truth = picture.there.total()
        if response is None:
            return Told(0, 0, 0, truth, 0, answered=False)
        mentioned = Counter(self.phrases.find(response.text))
        right = (mentioned & picture.there).total()
        known = right if self.counted else sum(mentioned[name] for name in picture.there)
        return Told(mentioned.total(), mentioned.total() - known, right, truth, len(response.text.split()))


# -- figures -----------------------------------------------------------------------------------------------------------


def share(parts: Sequence[tuple[int, int]], groups: Sequence[str]) -> Interval:
    """Sum of (hits, of how many) as one share, with its interval; rows of one group, and all mentions of a row, are drawn together."""
    values = [float(i < hits) for hits, total in parts for i in range(total)]
    return bootstrap(values, [group for group, (_, total) in zip(groups, parts, strict=True) for _ in range(total)]) if values else NOTHING


def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


# -- rows and vocabularies ---------------------------------------------------------------------------------------------


def field(row: Sample, name: str) -> Any:
    """The value of a field of the row as it was read, or of a field within a field (`truth.objects`); None where there is none."""
    value: Any = row.meta
    for part in [name] if name in row.meta else name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def entries_in(row: Sample, name: str, *, needed: bool = False) -> list[Entry]:
    """The entries of a vocabulary that a field holds. ValueError for a field of another kind, and for none where it is `needed`."""
    value = field(row, name)
    if value is None and not needed:
        return []
    if not is_entries(value):
        raise ValueError(f"row '{row.id}': field '{name}' should be a list of phrases, or of lists of synonyms, found {str(value)[:80]!r}")
    return list(value)


def entries_of(vocabulary: str | Sequence[Entry] | None) -> Sequence[Entry]:
    """The entries of a list or of a file. ValueError for a file that is none, OSError for one that cannot be read."""
    if not isinstance(vocabulary, str):
        return vocabulary or []
    text = Path(vocabulary).read_text(encoding="utf-8")
    if not vocabulary.lower().endswith(".json"):
        return [[word.strip() for word in line.split(",") if word.strip()] for line in text.splitlines() if line.strip()]
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{vocabulary} is no JSON: {error}") from error
    if not is_entries(entries):
        raise ValueError(f"{vocabulary} should hold a list of phrases, or of lists of synonyms")
    return list(entries)


def is_entries(value: Any) -> bool:
    """Whether a value from a file is a list of phrases or of lists of phrases."""
    return isinstance(value, list | tuple) and all(isinstance(entry, str) or _is_synonyms(entry) for entry in value)


def _is_synonyms(entry: Iterable[Any]) -> bool:
    return isinstance(entry, list | tuple) and len(entry) > 0 and all(isinstance(phrase, str) for phrase in entry)
