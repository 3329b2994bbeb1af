"""The adaptive cascade: rows that cheap signals already decide as the quality model would are not shown to it.

A chance of being poor is worked out of a row's signals. At or below one threshold the row is kept as it is, at or above another it leaves
(only where poor rows leave: one that is to be rewritten needs the model's words). `calibrating` chooses both so that the model agrees.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

from ..disk.durable import read_json
from ..disk.journal import Entry, read_entries
from ..records import Sample, Verdict
from ..run.directory import RunDir
from ..run.plan import source_of
from .agreement import interval
from .base import Signals
from .logistic import Logistic
from .rules import RULE

Fate = Literal["keep", "drop"]
KEPT, LEFT = "cascade:keep", "cascade:poor"  # reasons of rows that the cascade decided
CALIBRATED, AGREES, DIFFERS = "cascade:calibration", "cascade:audit:agrees", "cascade:audit:differs"  # flags


@dataclass(frozen=True)
class Decider:
    """What to do with a row whose chance of being poor is at or below `keep_below`, or at or above `drop_above`; None decides nothing."""

    model: Logistic
    keep_below: float | None
    drop_above: float | None = None

    def decide(self, signals: Signals) -> Fate | None:
        chance = self.model.chance(signals)
        if self.keep_below is not None and chance <= self.keep_below:
            return "keep"
        return "drop" if self.drop_above is not None and chance >= self.drop_above else None

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model.to_dict(), "keep_below": self.keep_below, "drop_above": self.drop_above}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Decider:
        return cls(Logistic.from_dict(d["model"]), d["keep_below"], d["drop_above"])


class Cascade:
    """The calibrated decider of a run, and the verdicts that calibration has brought already.

    audit: the share of decided rows, drawn by seed, that the model judges all the same: its verdict counts, with a flag that tells
    whether the cascade's was the same.
    """

    def __init__(self, run_dir: RunDir, audit: float, seed: int) -> None:
        self.run_dir, self.audit, self.seed = run_dir, audit, seed

    @cached_property
    def record(self) -> dict[str, Any]:
        """What calibration wrote. Raises FileNotFoundError before it did."""
        record = read_json(self.run_dir.calibrated)
        if record is None:
            raise FileNotFoundError(f"'{self.run_dir.calibrated}' is not there: the cascade was not calibrated yet")
        return record

    @cached_property
    def decider(self) -> Decider:
        return Decider.from_dict(self.record["decider"])

    @cached_property
    def known(self) -> dict[tuple[str, int], Entry]:
        """What the model said of the calibration's rows, by shard and row."""
        entries = zip(self.record["rows"], read_entries(self.run_dir.calibration), strict=True)
        return {(shard, row): entry for (shard, row), entry in entries if "rejected" not in entry}

    def settle(self, sample: Sample, signals: Signals) -> Verdict | None:
        """The verdict that needs no further question; None for a row that the model is to judge."""
        entry = self.known.get(_place(sample))
        if entry is not None:
            verdict = Verdict.from_dict(entry)
            return dataclasses.replace(verdict, flags=(*verdict.flags, CALIBRATED))
        fate = self.decider.decide(signals)
        if fate is None or self._audited(sample):
            return None
        return Verdict(fate, reason=KEPT if fate == "keep" else LEFT)

    def reviewed(self, signals: Signals, answer: Verdict) -> Verdict:
        """The model's verdict on a row that it was asked about; one that was asked for the audit says whether the cascade agreed."""
        fate = self.decider.decide(signals)
        if fate is None:
            return answer
        return dataclasses.replace(answer, flags=(*answer.flags, AGREES if answer.action == fate else DIFFERS))

    def _audited(self, sample: Sample) -> bool:
        shard, row = _place(sample)
        drawn = blake2b(f"{self.seed}\0{shard}\0{row}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(drawn, "little") < self.audit * 2**64


def _place(sample: Sample) -> tuple[str, int]:
    source = source_of(sample)
    return source.shard, source.row


def tally(journals: Iterable[Iterable[Entry]]) -> dict[str, Any]:
    """What the cascade came to, counted over the journals of all shards.

    `rows`: those that came to the cascade. `calls`: those that the model judged, calibration and audit among them. `saved`: the share that
    it was spared. `agreement` is what the audit measured, with its Clopper-Pearson interval; None where nothing was audited.
    """
    counts = Counter(_kind(entry) for journal in journals for entry in journal)
    kept, left, agrees, audited = counts["keep"], counts["drop"], counts["agrees"], counts["agrees"] + counts["differs"]
    calls = counts["asked"] + counts["calibration"] + audited
    rows = calls + kept + left
    told = {"rows": rows, "kept": kept, "dropped": left, "calls": calls, "calibration": counts["calibration"]}
    low, high = interval(agrees, audited)
    measured = {"agreement": agrees / audited, "interval": [round(low, 4), round(high, 4)]} if audited else {"agreement": None}
    return {**told, "saved": round((kept + left) / rows, 6) if rows else 0.0, "audited": audited, "agrees": agrees, **measured}


def _kind(entry: Entry) -> str:
    reason, flags = entry.get("reason", ""), entry.get("flags", ())
    if "rejected" in entry or entry["action"] == "quarantine" or reason.startswith(RULE):
        return "elsewhere"
    if reason in (KEPT, LEFT):
        return "keep" if reason == KEPT else "drop"
    named = {CALIBRATED: "calibration", AGREES: "agrees", DIFFERS: "differs"}
    return next((named[flag] for flag in flags if flag in named), "asked")
