"""A stage of the pipeline: units of work in, rows of one file out, each unit done once for all that its result depends on.

What a unit came to is kept in a ledger under the hash of the stage's settings and of the unit itself, block by block. The stage's file
is rendered from the ledger when every unit is there: always in the order of the input, without what no longer belongs to it.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import CallFailed
from data_tools.disk.durable import put_in_place
from data_tools.disk.ledger import Ledger, key_of
from data_tools.io.jsonl import dump
from data_tools.run.directory import RunStopped

FAILURES = 3  # calls in a row that fail for no fault of the row's: then the model is gone, not the row


class Unit(NamedTuple):
    """One piece of work.

    subjects: ids of the rows that it decides about. depends: JSON that decides its result together with the stage's settings.
    item: what `Stage.work` gets.
    """

    subjects: tuple[str, ...]
    depends: Any
    item: Any


class Gone(NamedTuple):
    """A row that leaves here. `again`: through no fault of its own, so the next start tries it once more."""

    subject: str
    reason: str
    detail: str = ""
    again: bool = False

    def line(self) -> dict[str, Any]:
        """As it stands in quarantine."""
        return {"subject": self.subject, "reason": self.reason, "detail": self.detail}


class Done(NamedTuple):
    """What a unit came to: rows of the stage's file, and the subjects that leave."""

    rows: Sequence[Mapping[str, Any]] = ()
    gone: Sequence[Gone] = ()


@dataclass(frozen=True)
class Stage:
    """`settings`: what every result depends on (options, the model's description). `work` answers with one `Done` an item, in order;
    it may raise `CallFailed`, and is then asked item by item. `block` units are worked and committed together."""

    name: str
    settings: Mapping[str, Any]
    units: Callable[[], Iterable[Unit]]
    work: Callable[[Sequence[Any]], Sequence[Done]]
    block: int = 32


class Progress(NamedTuple):
    """Where a stage is: units seen, of them done by this start, subjects that left."""

    name: str
    rows: int
    fresh: int
    gone: int

    @property
    def told(self) -> str:
        """How they fared, for people."""
        known = self.rows - self.fresh
        return ", ".join([f"{self.gone} quarantined", *([f"{known} known before"] if known else [])])


@dataclass
class Watch:
    """How a caller looks on: `stop` is asked and `tell` is told after every block."""

    stop: Callable[[], bool] = lambda: False
    tell: Callable[[Progress], None] = lambda _: None


@dataclass(frozen=True)
class StageSummary:
    """What became of a stage's rows: `rows == out + quarantined` always holds.

    lines: rows of its file. fresh: units worked by this start, `seconds` spent on them; reused: units whose result was known.
    again: rows in quarantine that the next start tries once more.
    """

    rows: int = 0
    out: int = 0
    quarantined: int = 0
    lines: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    again: int = 0
    fresh: int = 0
    reused: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Places(NamedTuple):
    """Where a stage keeps and writes: its ledger, its file, its quarantine; `scratch` makes a path for a file under construction."""

    ledger: Path
    output: Path
    quarantine: Path
    scratch: Callable[[str], Path]


def run_stage(stage: Stage, places: Places, watch: Watch) -> StageSummary:
    """Work what is not known yet, then write the stage's file and quarantine. Raises RunStopped (resumable)."""
    with Ledger(places.ledger) as ledger:
        run = _Run(stage, ledger, watch)
        run.work_all()
        return run.render(places)


class _Run:
    """One start of a stage."""

    def __init__(self, stage: Stage, ledger: Ledger, watch: Watch) -> None:
        self.stage, self.ledger, self.watch = stage, ledger, watch
        self.settings = key_of(stage.name, stage.settings)
        self.order: list[tuple[str, tuple[str, ...]]] = []  # key and subjects of every unit
        self.failed: dict[str, Done] = {}  # what the next start tries again is not kept
        self.fresh = self.gone = self.in_a_row = 0
        self.seconds = 0.0

    def work_all(self) -> None:
        pending: list[tuple[str, Unit]] = []
        for unit in self.stage.units():
            key = key_of(self.settings, unit.subjects, unit.depends)
            self.order.append((key, unit.subjects))
            if key not in self.ledger:
                pending.append((key, unit))
            if len(pending) == self.stage.block:
                self._block(pending)
                pending = []
        self._block(pending)

    def _block(self, pending: Sequence[tuple[str, Unit]]) -> None:
        if not pending:
            return
        started = time.monotonic()
        done = self._attempt([unit for _, unit in pending])
        self.seconds += time.monotonic() - started
        self.failed |= {key: result for (key, _), result in zip(pending, done, strict=True) if any(gone.again for gone in result.gone)}
        kept = [(key, _entry(result)) for (key, _), result in zip(pending, done, strict=True) if key not in self.failed]
        self.ledger.add([key for key, _ in kept], [entry for _, entry in kept])
        self.fresh += len(pending)
        self.gone += sum(len(result.gone) for result in done)
        self.watch.tell(Progress(self.stage.name, len(self.order), self.fresh, self.gone))
        if self.watch.stop():
            raise RunStopped("stopped on request; run the same command to continue")

    def _attempt(self, units: Sequence[Unit]) -> list[Done]:
        """The units' results; where the call fails, each unit's own, so that one bad row takes no other with it."""
        try:
            done = list(self.stage.work([unit.item for unit in units]))
        except CallFailed as error:
            return [self._failed(units[0], error)] if len(units) == 1 else [self._attempt([unit])[0] for unit in units]
        if len(done) != len(units):
            raise ValueError(f"stage {self.stage.name} gave {len(done)} results for {len(units)} units; it must give one each, in order")
        self.in_a_row = 0
        return done

    def _failed(self, unit: Unit, error: CallFailed) -> Done:
        self.in_a_row += error.again
        if error.gone or self.in_a_row >= FAILURES:
            why = "the model is gone" if error.gone else f"the model failed {FAILURES} times in a row"
            raise RunStopped(
                f"stage {self.stage.name}: {why} ({error}). What was done so far is kept: see to the "
                f"model, then run the same command to continue"
            ) from error
        return Done(gone=[Gone(subject, "call_failed", str(error), error.again) for subject in unit.subjects])

    def render(self, places: Places) -> StageSummary:
        """The stage's file and quarantine, whole or not at all."""
        output, quarantine = places.scratch("output"), places.scratch("quarantine")
        reasons: Counter[str] = Counter()
        rows = lines = again = 0
        with output.open("wb") as out, quarantine.open("wb") as left:
            for key, subjects in self.order:
                entry = _entry(self.failed[key]) if key in self.failed else self.ledger[key]
                rows, lines = rows + len(subjects), lines + len(entry["rows"])
                again += sum(gone["again"] for gone in entry["gone"])
                reasons.update(gone["reason"] for gone in entry["gone"])
                out.writelines(map(dump, entry["rows"]))
                left.writelines(dump(Gone(**gone).line()) for gone in entry["gone"])
            for file in (out, left):
                file.flush()
                os.fsync(file.fileno())
        put_in_place(output, places.output)
        put_in_place(quarantine, places.quarantine)
        gone, reused = reasons.total(), len(self.order) - self.fresh
        told = dict(sorted(reasons.items()))
        return StageSummary(rows, rows - gone, gone, lines, told, again, self.fresh, reused, round(self.seconds, 3))


def _entry(done: Done) -> dict[str, Any]:
    return {"rows": list(done.rows), "gone": [gone._asdict() for gone in done.gone]}


def read_quarantine(path: Path) -> dict[str, str]:
    """The rows that left at a stage, by id, with their reason; empty where it did not run."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        return {row["subject"]: row["reason"] for row in map(json.loads, file) if "subject" in row}
