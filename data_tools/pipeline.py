"""Steps over samples, shard by shard: every row ends in the output or in quarantine, and a killed run continues where it was.

Pass 1 (`judge_shard`) reads fixed blocks of the input order, decodes their pictures one block ahead of the model, and
journals what the step decided. Pass 2 (`finalise_shard`) reads the source again, joins it with the journal and renders output,
quarantine and statistics. What pass 2 writes is a function of source and journal alone, so it can be killed and repeated.
Shards do not depend on one another but for the ids seen before them: an engine may call `judge_shard` in any order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from .io import Shard, extension, read, write
from .io.fields import excerpt
from .io.images import BadImage, decode
from .journal import Entry, Journal, read_entries, read_lines
from .records import Image, Rejected, Sample, Verdict
from .report.stats import Stats
from .shards import RunDir, RunRefused, RunStopped, is_disk_full, put_in_place, read_json, remove, write_atomic

Step = Callable[[Sequence[Sample]], Sequence[Verdict]]
ShardRule = Callable[[Iterable[tuple[int, Verdict]]], Callable[[int, Verdict], Verdict]]
Item = Sample | Rejected
T = TypeVar("T")

RAW_CAPTION = "caption_raw"
DETAIL_CHARS = 2_000
FIRST_DUPLICATES = 20
DECODERS = min(4, os.cpu_count() or 1)
SLOW_ROW = 0.001  # seconds
NO_ID = b"\0" * 8
VERDICT_FIELDS = tuple(f.name for f in dataclasses.fields(Verdict))
COUNTS = ("rows", "out", "quarantined", "kept", "rewritten", "duplicates")
DROPPED = ("drop", "quarantine")


@dataclass(frozen=True)
class Plan:
    """What to do with every shard. `step` must answer with one verdict a sample, in order.

    `audit` turns a verdict into what is stored in the row under `audit_field`. `rule` may change verdicts once a whole shard is
    judged (see `ShardRule`: it sees all (row, verdict) first). `format` None keeps each shard's own. `block_rows` rows of the
    input order are judged, journaled and committed together. `max_side` bounds decoded pictures (None: as they are).
    """

    step: Step
    audit: Callable[[Verdict], Mapping[str, Any]]
    block_rows: int
    audit_field: str = "aitqe"
    audit_type: Callable[[], Any] | None = None  # makes the pyarrow type of what `audit` returns; None: a column of JSON text
    rule: ShardRule | None = None
    format: str | None = None
    caption_key: str | None = None
    image_key: str | None = None
    image_root: str | None = None
    max_pixels: int = 89_478_485
    max_side: int | None = None
    limit: int | None = None
    on_duplicate: Literal["keep", "quarantine"] = "keep"
    seed: int = 0

    def read(self, shard: Shard, skip: int = 0) -> Iterator[Item]:
        return iter(read(shard, caption_key=self.caption_key, image_key=self.image_key, image_root=self.image_root, skip=skip))

    def suffix(self, shard: Shard) -> str:
        return extension(self.format or shard.format)


class Progress(NamedTuple):
    """Where a run is: rows judged since the source's first row, how they fared so far, seconds spent inside the step."""

    shard: str
    rows: int
    kept: int
    rewritten: int
    quarantined: int
    step_seconds: float


@dataclass
class Watch:
    """How a caller looks on: `stop` is asked after every block, `progress` is told after every block."""

    stop: Callable[[], bool] = lambda: False
    progress: Callable[[Progress], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    step_seconds: float = 0.0
    fresh_rows: int = 0  # judged by this process, not read from an earlier start's journal

    def block(self, shard: Shard, entries: Sequence[Entry]) -> None:
        self.counts.update(_outcome(entry) for entry in entries)
        self.fresh_rows += len(entries)
        self.tell(shard.name)

    def tell(self, shard: str) -> None:
        c = self.counts
        gone = c["rejected"] + c["drop"] + c["quarantine"]
        self.progress(Progress(shard, sum(c.values()), c["keep"], c["rewrite"], gone, self.step_seconds))

    def check(self) -> None:
        if self.stop():
            raise RunStopped("stopped on request; run the same command to continue")


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
            **{
                name: getattr(self, name) + getattr(other, name)
                for name in ("rows", "out", "quarantined", "kept", "rewritten", "duplicates")
            },
            reasons=dict(sorted((Counter(self.reasons) + Counter(other.reasons)).items())),
            first_duplicates=[*self.first_duplicates, *other.first_duplicates][:FIRST_DUPLICATES],
        )


class SeenIds:
    """64-bit hashes of all ids so far: 8 bytes a row, in sorted runs that are merged when they reach equal length.

    Two ids of 10^8 share a hash with probability 3e-4; such a pair would be reported as a duplicate.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def repeated(self, ids: np.ndarray) -> np.ndarray:
        """For uint64 hashes [N] in row order (0 = no id): bool [N], whether the id came before, here or in an added shard."""
        order = np.argsort(ids, kind="stable")
        mask = np.zeros(len(ids), dtype=bool)
        mask[order[1:]] = ids[order[1:]] == ids[order[:-1]]
        for run in self._runs:
            at = np.searchsorted(run, ids)
            mask |= (at < len(run)) & (run[np.minimum(at, len(run) - 1)] == ids)
        return mask & (ids != 0)

    def add(self, ids: np.ndarray) -> None:
        run = np.unique(ids[ids != 0])
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.union1d(run, self._runs.pop())
        if len(run):
            self._runs.append(run)


def run(shards: Sequence[Shard], plan: Plan, run_dir: RunDir, watch: Watch) -> Summary:
    """Judge and finalise every shard that is not done; the summary of all. Raises RunStopped (resumable) and RunRefused."""
    seen, total = SeenIds(), Summary()
    for shard in shards:
        left = None if plan.limit is None else plan.limit - total.rows
        if left == 0:
            break
        total = total.plus(process_shard(shard, plan, run_dir, seen, watch, limit=left))
    _check_identity(total, "the run")
    return total


def process_shard(shard: Shard, plan: Plan, run_dir: RunDir, seen: SeenIds, watch: Watch, *, limit: int | None = None) -> Summary:
    """Both passes over one shard, or what its done marker says; `seen` then holds its ids too."""
    done = run_dir.done(shard.name)
    if done is None:
        with stopping_on_full_disk(run_dir.root):
            judge_shard(shard, plan, run_dir, watch, limit=limit)
            done = finalise_shard(shard, plan, run_dir, seen, watch).to_dict()
            run_dir.mark_done(shard.name, done)
    else:
        watch.counts.update(keep=done["kept"], rewrite=done["rewritten"], rejected=done["quarantined"])
        watch.tell(shard.name)
    seen.add(np.fromfile(run_dir.ids(shard.name), dtype="<u8"))
    return Summary.from_dict(done)


def judge_shard(shard: Shard, plan: Plan, run_dir: RunDir, watch: Watch, *, limit: int | None = None) -> None:
    """Pass 1: journal a verdict or a rejection for every row that the journal does not hold yet."""
    path = run_dir.journal(shard.name)
    with Journal(path) as journal:
        if journal.rows:
            watch.counts.update(_outcome(entry) for entry in read_entries(path))
        if journal.complete:
            return
        rows = plan.read(shard, skip=journal.rows)
        wanted = rows if limit is None else islice(rows, limit - journal.rows)
        for block in _prepared_blocks(wanted, plan):
            entries = _judge(block, plan, watch)
            journal.append(entries, b"".join(_id_hash(row.item) for row in block))
            watch.block(shard, entries)
            watch.check()
        journal.finish()


class Prepared(NamedTuple):
    """A row as it was read, and either the sample with decoded pictures or the entry that refuses it."""

    item: Item
    sample: Sample | None
    refused: Entry | None


def _prepared_blocks(items: Iterator[Item], plan: Plan) -> Iterator[list[Prepared]]:
    """Blocks of rows with decoded pictures; while the caller works long on one, the next is made.

    Threads cost small pictures more than they bring (each read hands the interpreter's lock over), so they come in only where
    the last block was slow: `ahead` when the caller took its time, the decoders when the pictures did.
    """
    with ThreadPoolExecutor(DECODERS) as decoders, ThreadPoolExecutor(1) as ahead:
        blocks = _Preparing(items, plan, decoders)
        block = next(blocks, None)
        overlap = False
        while block is not None:
            future = ahead.submit(next, blocks, None) if overlap else None
            started = time.monotonic()
            yield block
            overlap = time.monotonic() - started > SLOW_ROW * len(block)
            block = next(blocks, None) if future is None else future.result()


class _Preparing:
    """Iterator of prepared blocks; notices how long a row takes."""

    def __init__(self, items: Iterator[Item], plan: Plan, decoders: ThreadPoolExecutor) -> None:
        self.items, self.plan, self.decoders = items, plan, decoders
        self.slow = False

    def __iter__(self) -> _Preparing:
        return self

    def __next__(self) -> list[Prepared]:
        rows = list(islice(self.items, self.plan.block_rows))
        if not rows:
            raise StopIteration
        started = time.monotonic()
        block = self._by_threads(rows) if self.slow else [_prepare_row(item, self.plan) for item in rows]
        threads = DECODERS if self.slow else 1
        self.slow = (time.monotonic() - started) * threads > SLOW_ROW * len(rows)
        return block

    def _by_threads(self, rows: list[Item]) -> list[Prepared]:
        slices = [rows[start::DECODERS] for start in range(DECODERS)]
        done = list(self.decoders.map(lambda part: [_prepare_row(item, self.plan) for item in part], slices))
        return [done[i % DECODERS][i // DECODERS] for i in range(len(rows))]


def _prepare_row(item: Item, plan: Plan) -> Prepared:
    if isinstance(item, Rejected):
        return Prepared(item, None, _refusal(item.reason, item.detail))
    taken = taken_fields(item, plan)
    if taken:
        return Prepared(item, None, _refusal("field_collision", f"the row already has a field {taken[0]!r}"))
    if not item.images:
        return Prepared(item, None, _refusal("image_missing", "the row names no image"))
    try:
        images = tuple(_decoded(image, plan) for image in item.images)
    except BadImage as error:
        return Prepared(item, None, _refusal(error.reason, error.detail))
    return Prepared(item, dataclasses.replace(item, images=images), None)


def _decoded(image: Image, plan: Plan) -> Image:
    return decode(image, max_pixels=plan.max_pixels, max_side=plan.max_side)


def taken_fields(sample: Sample, plan: Plan) -> list[str]:
    """The fields that this run would add and the row already has."""
    return [name for name in (RAW_CAPTION, plan.audit_field) if name in sample.meta]


def _judge(block: list[Prepared], plan: Plan, watch: Watch) -> list[Entry]:
    """One entry a row, in order."""
    samples = [row.sample for row in block if row.sample is not None]
    started = time.perf_counter()
    verdicts = plan.step(samples) if samples else ()
    watch.step_seconds += time.perf_counter() - started
    if len(verdicts) != len(samples):
        raise ValueError(f"the step returned {len(verdicts)} verdicts for {len(samples)} samples; it must return one each, in order")
    answers = iter(verdicts)
    return [row.refused if row.refused is not None else _entry(next(answers)) for row in block]


def _entry(verdict: Verdict) -> Entry:
    """The verdict's fields that say something. (`to_dict` copies deeply, which would cost as much as decoding the picture.)"""
    values = ((name, getattr(verdict, name)) for name in VERDICT_FIELDS)
    return {name: value for name, value in values if value is not None and value != "" and value != {} and value != ()}


def _refusal(reason: str, detail: str) -> Entry:
    return {"rejected": reason, "detail": detail[:DETAIL_CHARS]}


def _outcome(entry: Entry) -> str:
    return "rejected" if "rejected" in entry else str(entry["action"])


def _id_hash(item: Item) -> bytes:
    if isinstance(item, Rejected):
        return NO_ID
    digest = blake2b(item.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return digest if digest != NO_ID else b"\1" * 8


def finalise_shard(shard: Shard, plan: Plan, run_dir: RunDir, seen: SeenIds, watch: Watch) -> Summary:
    """Pass 2: render output, quarantine, statistics and id hashes of a completely judged shard, then rename each into place."""
    ids = np.frombuffer(b"".join(line.ids for line in read_lines(run_dir.journal(shard.name))), dtype="<u8")
    render = _Render(shard, plan, run_dir, seen.repeated(ids))
    summary = render.all_rows(watch)
    write_atomic(run_dir.stats(shard.name), json.dumps(render.stats.to_dict()).encode("ascii"))
    write_atomic(run_dir.ids(shard.name), ids.tobytes())
    render.put_in_place()
    return summary


class _Render:
    """One shard's second pass: the files under construction and the counts that must agree at its end."""

    def __init__(self, shard: Shard, plan: Plan, run_dir: RunDir, repeated: np.ndarray) -> None:
        self.shard, self.plan, self.repeated = shard, plan, repeated
        self.journal = run_dir.journal(shard.name)
        self.decide = _shard_rule(plan, self.journal)
        self.output = run_dir.output(shard.name, plan.suffix(shard))
        self.quarantine = run_dir.quarantine(shard.name)
        self.made = [(run_dir.scratch(self.output.name), self.output), (run_dir.scratch("quarantine.jsonl"), self.quarantine)]
        self.stats = Stats(plan.seed)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.duplicates: list[str] = []

    def all_rows(self, watch: Watch) -> Summary:
        for path, _ in self.made:
            remove(path)
        out_path, quarantine_path = (path for path, _ in self.made)
        source = self.plan.read(self.shard)
        hint = _schema_hint(self.shard, self.plan)
        with write(str(out_path), self.plan.format or self.shard.format, schema_hint=hint) as out, quarantine_path.open("wb") as gone:
            for line in read_lines(self.journal):
                for item, entry in zip(self._rows_of(source, line.row, line.n, line.ids), line.entries(), strict=True):
                    self._row(item, entry, out, gone)
                watch.check()
            gone.flush()
            os.fsync(gone.fileno())
        return self._summary()

    def _rows_of(self, source: Iterator[Item], row: int, n: int, ids: bytes) -> list[Item]:
        """The rows of one journal block; RunRefused when the source no longer holds what was judged."""
        items = list(islice(source, n))
        if b"".join(map(_id_hash, items)) != ids:
            raise RunRefused(
                f"rows {row} to {row + n - 1} of '{self.shard.path}' are not what was judged: the source changed while the run went on. "
                f"Restore it, or start anew with --overwrite."
            )
        return items

    def _row(self, item: Item, entry: Entry, out: Any, gone: Any) -> None:
        row = self.counts["rows"]
        self.counts["rows"] += 1
        if isinstance(item, Rejected):
            return self._leaves(item, gone)
        again = bool(self.repeated[row])
        if again:
            self._duplicate(item, row)
        if "rejected" in entry:
            return self._leaves(_rejected(item, entry["rejected"], entry.get("detail", "")), gone)
        verdict = self.decide(row, Verdict.from_dict(entry))
        if verdict.action in DROPPED:
            return self._leaves(_rejected(item, verdict.reason or verdict.action, "by the step's decision"), gone)
        if again and self.plan.on_duplicate == "quarantine":
            return self._leaves(_rejected(item, "duplicate_id", f"id {item.id!r} came before"), gone)
        return self._stays(item, verdict, out)

    def _stays(self, item: Sample, verdict: Verdict, out: Any) -> None:
        text = verdict.text if verdict.action == "rewrite" and verdict.text is not None else item.caption or ""
        self.counts[verdict.action] += 1
        self.stats.add(item, verdict, text)
        added = {RAW_CAPTION: item.caption, self.plan.audit_field: dict(self.plan.audit(verdict))}
        out.add(dataclasses.replace(item, caption=text, meta={**item.meta, **added}))

    def _leaves(self, rejected: Rejected, gone: Any) -> None:
        self.reasons[rejected.reason] += 1
        self.stats.reject(rejected)
        gone.write(json.dumps(rejected.to_dict(), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def _duplicate(self, item: Sample, row: int) -> None:
        self.stats.duplicate()
        self.counts["duplicates"] += 1
        if len(self.duplicates) < FIRST_DUPLICATES:
            self.duplicates.append(f"{self.shard.name} row {row}: id {item.id[:80]!r}")

    def _summary(self) -> Summary:
        c = self.counts
        summary = Summary(
            rows=c["rows"],
            out=c["keep"] + c["rewrite"],
            quarantined=self.reasons.total(),
            kept=c["keep"],
            rewritten=c["rewrite"],
            reasons=dict(sorted(self.reasons.items())),
            duplicates=c["duplicates"],
            first_duplicates=self.duplicates,
        )
        _check_identity(summary, self.shard.name)
        return summary

    def put_in_place(self) -> None:
        for made, final in self.made:
            put_in_place(made, final)


def _shard_rule(plan: Plan, journal: Path) -> Callable[[int, Verdict], Verdict]:
    if plan.rule is None:
        return lambda _, verdict: verdict
    judged = ((row, Verdict.from_dict(entry)) for row, entry in enumerate(read_entries(journal)) if "rejected" not in entry)
    return plan.rule(judged)


def _schema_hint(shard: Shard, plan: Plan) -> Any:
    """The source's column types and those of the columns that are added, where the output has typed columns."""
    format = plan.format or shard.format
    if plan.audit_type is None or format not in ("parquet", "hf"):
        return shard
    import pyarrow as pa

    from .io.schema import schema_of

    base = schema_of(shard) if format == shard.format else None
    added = {RAW_CAPTION: pa.string(), plan.audit_field: plan.audit_type()}
    fields = [*(base or ()), *(pa.field(name, kind) for name, kind in added.items() if base is None or name not in base.names)]
    return pa.schema(fields, metadata=base.metadata if base is not None else None)


def _rejected(sample: Sample, reason: str, detail: str) -> Rejected:
    if sample.source is None:
        raise ValueError(f"sample {sample.id!r} does not say where it was read (Sample.source); readers must set it")
    return Rejected(sample.source, reason, detail, excerpt(sample.meta))


def _check_identity(summary: Summary, where: str) -> None:
    if summary.rows != summary.out + summary.quarantined:
        raise RuntimeError(f"{where}: {summary.rows} rows in, but {summary.out} out and {summary.quarantined} quarantined: a row was lost")


def merged_stats(shards: Sequence[Shard], run_dir: RunDir, seed: int) -> Stats:
    """The statistics of all finished shards together."""
    total = Stats(seed)
    for shard in shards:
        part = read_json(run_dir.stats(shard.name))
        if part is not None:
            total.merge(Stats.from_dict(part))
    return total


@contextlib.contextmanager
def stopping_on_full_disk(root: Path) -> Iterator[None]:
    """Turn a full disk into RunStopped: what is committed stays, and the same command continues."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RunStopped(
            f"no space left to write to '{root}' ({error.strerror}). Everything judged so far is kept: "
            f"free some space and run the same command to continue"
        ) from error
