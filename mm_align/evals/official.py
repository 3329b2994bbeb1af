"""What every published benchmark is: questions, and the official evaluator's numbers for the answers, quirks included."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from data_tools.records import Response

from .answers import KEYS, TEXTS, Answer, Answers, as_answers, read_answers
from .base import Benchmark, Judged, check_known

STEMS = ("answers", "responses", "rows", "captions", "predictions", "results")
RESPONSE_FILES = tuple(f"{stem}{suffix}" for stem in STEMS for suffix in (".jsonl", ".json", ".csv", ".tsv", ".xlsx"))


class Flavor(NamedTuple):
    """Rules of one evaluator. rules: repository, file and commit, or version. verified: an example with its numbers is a test here."""

    rules: str
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Scored:
    """What an evaluator says of one response file.

    results: what the upstream script computes and reports, under its names, rounded where it rounds. raw: unrounded values and
    counts. printed: the lines that upstream prints. flags: guarded divisions, fallbacks, files that differ: whatever a reader has to
    know. items: a score of each answered question, whose mean is the figure `items_metric` of the benchmark, for intervals, paired
    differences and galleries.
    """

    benchmark: str
    flavor: str
    rules_version: str
    n: int
    results: Mapping[str, Any]
    flags: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    printed: tuple[str, ...] = ()
    items: tuple[Judged, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The contract of `mmalign score --json`; `items` are left out. JSON has no NaN: None, and a flag."""
        absent: list[str] = []
        results, raw = _finite(self.results, "results", absent), _finite(self.raw, "raw", absent)
        told = [f"null where upstream has nan or inf, which JSON has not: {', '.join(absent)}"] if absent else []
        return {
            "benchmark": self.benchmark,
            "flavor": self.flavor,
            "rules_version": self.rules_version,
            "n": self.n,
            "results": results,
            "flags": [*self.flags, *told],
            "raw": raw,
            "printed": list(self.printed),
        }


class Official(Benchmark):
    """Built as `NAME(data=..., flavor=..., **options)`.

    name: as in `BENCHMARKS`. flavors: evaluators by name, the official one first. items_metric: the key of `results` (dots for
    parts) that is the mean of `Scored.items`, times `items_scale`. texts, keys: fields of a response file that hold the answer and
    the id, the first one that is there.
    """

    name: ClassVar[str]
    flavors: ClassVar[Mapping[str, Flavor]]
    items_metric: str
    items_scale: float = 1.0
    texts: ClassVar[Sequence[str]] = TEXTS
    keys: Sequence[str] = KEYS

    def __init__(self, data: str | None = None, *, flavor: str | None = None, limit: int | None = None) -> None:
        if data is not None and not Path(data).exists():
            raise FileNotFoundError(f"there is no {data}")
        self.data, self.limit = data, limit
        self.flavor = self._known_flavor(flavor)
        self.flags: list[str] = []

    def _known_flavor(self, flavor: str | None) -> str:
        if flavor is None:
            return next(iter(self.flavors))
        if flavor not in self.flavors:
            raise ValueError(f"{self.name} has no flavor '{flavor}'; there are {', '.join(self.flavors)}")
        return flavor

    def read(self, responses: Any) -> Answers:
        """A response file, the folder of one (of `RESPONSE_FILES`), or rows; shapes that `read_answers` does not know are read by the
        benchmark itself. ValueError for a folder without one."""
        if isinstance(responses, str | Path):
            return read_answers(file_in(Path(responses)), texts=self.texts, keys=self.keys)
        return as_answers(responses, texts=self.texts, keys=self.keys)

    @abstractmethod
    def report(self, answers: Answers) -> Scored:
        """The evaluator's numbers for the rows of a response file. ValueError, naming the row, for answers that have none."""

    @abstractmethod
    def answers(self, responses: Mapping[str, Response]) -> Answers:
        """Responses to `samples()`, as rows of a response file in upstream's order."""

    def score(self, responses: Mapping[str, Response]) -> dict[str, float]:
        return self.figures(self.report(self.answers(responses)))

    def figures(self, scored: Scored) -> dict[str, float]:
        """All numbers of a report by name; those of the literature that upstream does not report are added here."""
        return dict(flat(scored.results))

    def scored(self, n: int, results: Mapping[str, Any], *, flags: Iterable[str] = (), **more: Any) -> Scored:
        """A `Scored` with this benchmark's name, flavor, rules and flags."""
        rules, verified = self.flavors[self.flavor]
        told = [*self.flags, *flags, *([] if verified else ["not verified against upstream"])]
        return Scored(self.name, self.flavor, rules, n, results, tuple(dict.fromkeys(told)), **more)


def file_in(path: Path) -> Path:
    """A file as it is; of a folder the response file, by its name. ValueError for none."""
    if not path.is_dir():
        return path
    found = next((path / name for name in RESPONSE_FILES if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"{path} holds no response file: expected {', '.join(RESPONSE_FILES[:4])} or the like, or give the file itself")
    return found


def _finite(value: Any, name: str, absent: list[str]) -> Any:
    """A copy of nested values with None for each number that JSON cannot hold, whose names are added to `absent`."""
    if isinstance(value, Mapping):
        return {key: _finite(part, f"{name}.{key}", absent) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part, f"{name}.{at}", absent) for at, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        absent.append(name)
        return None
    return value


def flat(results: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Nested results as ("Attribute.Accuracy", number); what is no number is left out."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{above}{name}", float(value)


def ratio(numerator: float, denominator: float, what: str, flags: list[str]) -> float:
    """A division that upstream does without a guard: 0.0 and a flag where it would raise ZeroDivisionError."""
    if denominator:
        return numerator / denominator
    flags.append(f"{what}: division by zero; upstream raises ZeroDivisionError, guarded as 0.0")
    return 0.0


def rows_of(
    samples: Sequence[str], responses: Mapping[str, Response], fields: Iterable[Mapping[str, Any]], text: str = "answer"
) -> Answers:
    """Rows with the upstream `fields` of each sample and the response in `text`; a sample without a response is an empty answer.
    ValueError for a response to no sample."""
    check_known(responses, samples)
    rows = []
    for number, (sample, extra) in enumerate(zip(samples, fields, strict=True), 1):
        said = responses[sample].text if sample in responses else ""
        rows.append(Answer(number, extra.get("id", sample), said, {**extra, text: said}))
    return Answers(tuple(rows), f"{len(rows)} responses")
