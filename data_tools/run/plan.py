"""What a run over shards is told (`Plan`), whom it tells (`Progress`, `Watch`) and what it came to (`Summary`)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..disk.journal import Entry
from ..io import Shard, extension, read
from ..records import Rejected, Sample, Source, Verdict
from .directory import RunStopped
from .steady import read_on

if TYPE_CHECKING:
    from ..filters.calibrating import Calibration
    from ..filters.scan import Scan

Step = Callable[[Sequence[Sample]], Sequence[Verdict]]
ShardRule = Callable[[Iterable[tuple[int, Verdict]]], Callable[[int, Verdict], Verdict]]
Item = Sample | Rejected
Look = Literal["pixels", "size", "nothing"]  # of pictures: decoded, their headers read, not even opened

RAW_CAPTION = "caption_raw"  # the field that keeps the caption as it came
FIRST_DUPLICATES = 20
COUNTS = ("rows", "out", "quarantined", "kept", "rewritten", "duplicates")


@dataclass(frozen=True)
class Plan:
    """What to do with every shard. `step` must answer with one verdict a sample, in order.

    `audit` turns a verdict into what is stored in the row under `audit_field`. `keeps_raw`: the caption as it came is stored too, for
    steps that may rewrite it. `rule` may change verdicts once a whole shard is
    judged (see `ShardRule`: it sees all (row, verdict) first). `scan`: what is told of every row before any is judged; `by_scan`: that is
    all the step needs, so rows are judged by where they stand. `look`: what the step needs of a sample's pictures, `loads`: their encoded
    bytes too. `format` None keeps each shard's own. `block_rows` rows of the
    input order are judged, journaled and committed together. `max_side` bounds decoded pictures (None: as they are); `grey`: without
    their colours; `loose`: sides of up to twice `max_side` will do.
    """

    step: Step
    audit: Callable[[Verdict], Mapping[str, Any]]
    block_rows: int
    audit_field: str = "aitqe"
    audit_type: Callable[[], Any] | None = None  # makes the pyarrow type of what `audit` returns; None: a column of JSON text
    keeps_raw: bool = True
    calibration: Calibration | None = None  # of a cascade, before any row is judged
    scan: Scan | None = None
    by_scan: bool = False
    look: Callable[[Sample], Look] = lambda _: "pixels"
    loads: bool = False
    rule: ShardRule | None = None
    format: str | None = None
    caption_key: str | None = None
    image_key: str | None = None
    image_root: str | None = None
    uid_key: str | None = None  # field of a uid that every row must have; those of rows that stay are listed
    max_pixels: int = 89_478_485
    max_side: int | None = None
    grey: bool = False
    loose: bool = False
    fast_pictures: bool = False  # decode by the extra `fast` where `max_side` bounds them
    limit: int | None = None
    on_duplicate: Literal["keep", "quarantine"] = "keep"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.block_rows < 1:
            raise ValueError(f"block_rows is {self.block_rows}; a block has at least one row")

    def read(self, shard: Shard, skip: int = 0) -> Iterator[Item]:
        """The rows of a shard from row `skip` on; see `steady.read_on` for one that cannot be read."""
        keys: dict[str, Any] = {"caption_key": self.caption_key, "image_key": self.image_key, "image_root": self.image_root}
        return read_on(shard, lambda: iter(read(shard, **keys, skip=skip)), skip)

    @property
    def added_fields(self) -> tuple[str, ...]:
        """The fields that a run adds to every row."""
        return (RAW_CAPTION, self.audit_field) if self.keeps_raw else (self.audit_field,)

    def suffix(self, shard: Shard) -> str:
        return extension(self.format or shard.format)


def source_of(sample: Sample) -> Source:
    """Where a sample was read. Raises ValueError where its reader did not say."""
    if sample.source is None:
        raise ValueError(f"sample {sample.id!r} does not say where it was read (Sample.source); readers must set it")
    return sample.source


class Progress(NamedTuple):
    """Where a run is: rows judged since the source's first row, how they fared so far, seconds spent inside the step."""

    shard: str
    rows: int
    kept: int
    rewritten: int
    quarantined: int
    step_seconds: float

    @property
    def name(self) -> str:
        return self.shard

    @property
    def told(self) -> str:
        """How the rows fared, for people."""
        return f"{self.kept} kept, {self.rewritten} rewritten, {self.quarantined} quarantined"


class Scanning(NamedTuple):
    """Where the scan or the calibration before the judging is."""

    name: str
    rows: int
    told: str = "looked at"


@dataclass
class Watch:
    """How a caller looks on: `stop` is asked after every block, `progress` is told after every block."""

    stop: Callable[[], bool] = lambda: False
    progress: Callable[[Progress | Scanning], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    step_seconds: float = 0.0
    scanned_rows: int = 0
    fresh_rows: int = 0  # judged by this process, not read from an earlier start's journal

    def block(self, shard: Shard, entries: Sequence[Entry]) -> None:
        self.counts.update(outcome(entry) for entry in entries)
        self.fresh_rows += len(entries)
        self.tell(shard.name)

    def calibrated(self, rows: int) -> None:
        """`rows` of a cascade's sample are judged."""
        self.progress(Scanning("calibration", rows, "judged"))

    def scanned(self, shard: Shard, rows: int) -> None:
        """`rows` more of a shard were looked at before any is judged."""
        self.scanned_rows += rows
        self.progress(Scanning(shard.name, self.scanned_rows))

    def tell(self, shard: str) -> None:
        c = self.counts
        gone = c["rejected"] + c["drop"] + c["quarantine"]
        self.progress(Progress(shard, sum(c.values()), c["keep"], c["rewrite"], gone, self.step_seconds))

    def check(self) -> None:
        if self.stop():
            raise RunStopped("stopped on request; run the same command to continue")


def outcome(entry: Entry) -> str:
    """What became of a row: its verdict's action, or `rejected`."""
    return "rejected" if "rejected" in entry else str(entry["action"])


@dataclass(frozen=True)
class Summary:
    """What became of one shard's rows, or of all. `rows == out + quarantined` always holds."""

    rows: int = 0
    out: int = 0
    quarantined: int = 0
    kept: int = 0
    rewritten: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    first_duplicates: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Summary:
        return cls(**d)

    def plus(self, other: Summary) -> Summary:
        return Summary(
            **{name: getattr(self, name) + getattr(other, name) for name in COUNTS},
            reasons=dict(sorted((Counter(self.reasons) + Counter(other.reasons)).items())),
            first_duplicates=[*self.first_duplicates, *other.first_duplicates][:FIRST_DUPLICATES],
        )


def check_identity(summary: Summary, where: str) -> None:
    """RuntimeError unless every row is in the output or in quarantine, and every row of the output has an action."""
    if summary.rows != summary.out + summary.quarantined or summary.out != summary.kept + summary.rewritten:
        raise RuntimeError(
            f"{where}: {summary.rows} rows in, but {summary.out} out ({summary.kept} kept, "
            f"{summary.rewritten} rewritten) and {summary.quarantined} quarantined: a row was lost"
        )
