"""Pass 2 over a shard: the source is read again, joined with the journal, and rendered to output, quarantine and statistics.

What is written is a function of source and journal alone, so this pass can be killed and repeated.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..disk.durable import put_in_place, remove, write_atomic
from ..disk.journal import Entry, read_entries, read_lines
from ..io import BadImage, Shard, SourceError, write
from ..io.refusals import RowError, excerpt
from ..records import Rejected, Sample, Verdict
from ..report.stats import Stats
from .directory import CHANGED, RunDir, RunRefused
from .plan import FIRST_DUPLICATES, RAW_CAPTION, Item, Plan, Summary, Watch, check_identity, source_of
from .seen_ids import Repeated, id_hash, judged_ids
from .steady import steady
from .uids import UID, uid_of

DROPPED = ("drop", "quarantine")
ROW_BY_ROW = ("jsonl", "webdataset", "folder")  # writers that refuse a row before they write any of it; Arrow's hold back many rows
REFUSES = (SourceError, RowError, BadImage)


def finalise_shard(shard: Shard, plan: Plan, run_dir: RunDir, repeated: Repeated, watch: Watch) -> Summary:
    """Pass 2: render output, quarantine, statistics and id hashes of a completely judged shard, then rename each into place.

    repeated: of uint64 id hashes [N] tells which came before, as `SeenIds.repeated`.
    """
    ids = judged_ids(shard, run_dir)
    render = _Render(shard, plan, run_dir, repeated(ids))
    with steady(shard, run_dir):
        summary = render.all_rows(watch)
    run_dir.refuse_changed(shard.name, shard.path)
    write_atomic(run_dir.stats(shard.name), json.dumps(render.stats.to_dict()).encode("ascii"))
    write_atomic(run_dir.ids(shard.name), ids.tobytes())
    if plan.uid_key is not None:
        write_atomic(run_dir.uids(shard.name), np.array(render.uids, UID).tobytes())
    render.put_in_place()
    return summary


class _Render:
    """One shard's second pass: the files under construction and the counts that must agree at its end."""

    def __init__(self, shard: Shard, plan: Plan, run_dir: RunDir, repeated: np.ndarray) -> None:
        self.shard, self.plan, self.repeated = shard, plan, repeated
        self.journal = run_dir.journal(shard.name)
        self.decide = _shard_rule(plan, self.journal, repeated)
        self.refuses: tuple[type[Exception], ...] = REFUSES if (plan.format or shard.format) in ROW_BY_ROW else ()
        self.output = run_dir.output(shard.name, plan.suffix(shard))
        self.quarantine = run_dir.quarantine(shard.name)
        made = run_dir.scratch(f"{shard.name}.output{plan.suffix(shard)}"), run_dir.scratch(f"{shard.name}.quarantine")
        self.made = [*zip(made, (self.output, self.quarantine), strict=True)]
        self.stats = Stats(plan.seed)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.duplicates: list[str] = []
        self.uids: list[tuple[int, int]] = []

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
            self._refuse_more(source)
            gone.flush()
            os.fsync(gone.fileno())
        return self._summary()

    def _refuse_more(self, source: Iterator[Item]) -> None:
        if self.plan.limit is None and next(source, None) is not None:
            raise RunRefused(f"'{self.shard.path}' holds more than the {len(self.repeated)} rows that were judged: {CHANGED}")

    def _rows_of(self, source: Iterator[Item], row: int, n: int, ids: bytes) -> list[Item]:
        """The rows of one journal block; RunRefused when the source no longer holds what was judged."""
        items = list(islice(source, n))
        if b"".join(map(id_hash, items)) != ids:
            raise RunRefused(f"rows {row} to {row + n - 1} of '{self.shard.path}' are not what was judged: {CHANGED}")
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
        self.stats.tell(item, verdict)
        if verdict.action in DROPPED:
            why = "; ".join(verdict.explanations.values())
            return self._leaves(_rejected(item, verdict.reason or verdict.action, why or "by the step's decision"), gone)
        if again and self.plan.on_duplicate == "quarantine":
            return self._leaves(_rejected(item, "duplicate_id", f"id {item.id!r} came before"), gone)
        return self._stays(item, verdict, out, gone)

    def _stays(self, item: Sample, verdict: Verdict, out: Any, gone: Any) -> None:
        text = verdict.text if verdict.action == "rewrite" and verdict.text is not None else item.caption or ""
        added: dict[str, Any] = {RAW_CAPTION: _raw_caption(item)} if self.plan.keeps_raw else {}
        added[self.plan.audit_field] = dict(self.plan.audit(verdict))
        try:
            out.add(dataclasses.replace(item, caption=text, meta={**item.meta, **added}))
        except self.refuses as error:
            return self._leaves(_rejected(item, "not_writable", str(error)), gone)
        self.counts["out"] += 1
        self.counts[verdict.action] += 1
        if self.plan.uid_key is not None:
            self.uids.append(uid_of(item.meta[self.plan.uid_key]))
        self.stats.add(item, verdict, text)

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
        """`rows` is what pass 1 journaled; the others are counted where this pass wrote them."""
        c = self.counts
        summary = Summary(
            rows=len(self.repeated),
            out=c["out"],
            quarantined=self.reasons.total(),
            kept=c["keep"],
            rewritten=c["rewrite"],
            reasons=dict(sorted(self.reasons.items())),
            duplicates=c["duplicates"],
            first_duplicates=self.duplicates,
        )
        check_identity(summary, self.shard.name)
        return summary

    def put_in_place(self) -> None:
        for made, final in self.made:
            put_in_place(made, final)


def _shard_rule(plan: Plan, journal: Path, repeated: np.ndarray) -> Callable[[int, Verdict], Verdict]:
    """What the plan's rule makes of the rows that can stay: a duplicate that leaves anyway takes no place of another."""
    if plan.rule is None:
        return lambda _, verdict: verdict
    leaves = repeated if plan.on_duplicate == "quarantine" else np.zeros_like(repeated)
    entries = ((row, entry) for row, entry in enumerate(read_entries(journal)) if "rejected" not in entry and not leaves[row])
    return plan.rule((row, Verdict.from_dict(entry)) for row, entry in entries)


def _raw_caption(sample: Sample) -> str | None:
    """The caption as it came: null stays null, though the step saw an empty one."""
    key = sample.source.caption_key if sample.source else None
    return None if key is not None and sample.meta.get(key, "") is None else sample.caption


def _schema_hint(shard: Shard, plan: Plan) -> Any:
    """The source's column types and those of the columns that are added, where the output has typed columns."""
    format = plan.format or shard.format
    if plan.audit_type is None or format not in ("parquet", "hf"):
        return shard
    import pyarrow as pa

    from ..io.schema import schema_of

    base = schema_of(shard) if format == shard.format else None
    added = {name: pa.string() if name == RAW_CAPTION else plan.audit_type() for name in plan.added_fields}
    fields = [*(base or ()), *(pa.field(name, kind) for name, kind in added.items() if base is None or name not in base.names)]
    return pa.schema(fields, metadata=base.metadata if base is not None else None)


def _rejected(sample: Sample, reason: str, detail: str) -> Rejected:
    return Rejected(source_of(sample), reason, detail, excerpt(sample.meta))
