"""Before the rows of a cascade are judged: the model judges a sample of them, by which the cascade learns what it may decide.

Half of the sample fits the chance of being poor, the other half tests thresholds, so that the stated agreement is a lower bound that holds
with confidence 0.95 and not the rate that happened. The sample is journaled: a killed calibration goes on where it was.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from ..disk.durable import to_json, write_atomic
from ..disk.journal import Entry, Journal, read_entries
from ..io import Shard
from ..run.blocks import ids_of, prepared_blocks
from ..run.directory import RunDir
from ..run.judging import judge_block
from ..run.plan import Item, Plan, Watch
from .agreement import Cut, Side, Told, loosest, rows_needed
from .cascade import Decider
from .logistic import columns_of, fit
from .rules import RULE
from .scan import LEAVES
from .step import FilterStep

log = logging.getLogger(__name__)

ALPHA = 0.05  # chance that a side agrees less than it is said to
MOST_SHARDS = 64  # that the sample is drawn from


@dataclass(frozen=True)
class Calibration:
    """How many rows the model judges first, and the agreement that must be shown.

    step: the stages with the model behind them and no cascade. drops: poor rows leave, so that the cascade can decide them too.
    """

    step: FilterStep
    rows: int = 2000
    agreement: float = 0.98
    drops: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.agreement < 1:
            raise ValueError(f"an agreement of {self.agreement:g} cannot be asked for: it is a rate from 0.5 to below 1")
        least = 2 * rows_needed(self.agreement, self.alpha)
        if self.rows < least:
            raise ValueError(f"{self.rows} rows cannot show an agreement of {self.agreement:g}: that takes {least} at the least")

    @property
    def alpha(self) -> float:
        """Of each side that is decided."""
        return ALPHA / (2 if self.drops else 1)


def calibrate(shards: Sequence[Shard], plan: Plan, run_dir: RunDir, watch: Watch) -> None:
    """Judge the sample and write the decider, unless that is done."""
    calibration = plan.calibration
    if calibration is None or run_dir.calibrated.exists():
        return
    drawn = draw(shards, plan, run_dir, calibration)
    judging = dataclasses.replace(plan, step=calibration.step)
    with Journal(run_dir.calibration) as journal:
        for block in prepared_blocks(_items(drawn[journal.rows :], shards, plan), judging):
            journal.append(judge_block(block, judging, watch), ids_of(block))
            watch.calibrated(journal.rows)
            watch.check()
    record = learned(list(read_entries(run_dir.calibration)), calibration)
    write_atomic(run_dir.calibrated, to_json({**record, "rows": drawn}))
    _say(record, calibration)


def draw(shards: Sequence[Shard], plan: Plan, run_dir: RunDir, calibration: Calibration) -> list[tuple[str, int]]:
    """Shard and row of the sample, in the order of the source: rows of at most `MOST_SHARDS` shards, all drawn by the seed.

    Rows that a scan knows to leave are not drawn.
    """
    rng = np.random.default_rng(calibration.seed)
    within = _within_limit(shards, plan, run_dir)
    chosen = sorted(rng.choice(len(within), MOST_SHARDS, replace=False).tolist()) if len(within) > MOST_SHARDS else range(len(within))
    places = [(within[k][0].name, row) for k in chosen for row in _open_rows(*within[k], plan, run_dir)]
    take = (
        sorted(rng.choice(len(places), calibration.rows, replace=False).tolist()) if len(places) > calibration.rows else range(len(places))
    )
    return [places[i] for i in take]


def _within_limit(shards: Sequence[Shard], plan: Plan, run_dir: RunDir) -> list[tuple[Shard, int | None]]:
    """Shards that the run comes to, with how many rows of each; None: all."""
    if plan.limit is None:
        return [(shard, None) for shard in shards]
    found: list[tuple[Shard, int | None]] = []
    left = plan.limit
    for shard in shards:
        rows = min(left, len(_open_rows(shard, None, plan, run_dir, leaving=True)))
        found += [(shard, rows)] if rows else []
        left -= rows
    return found


def _open_rows(shard: Shard, limit: int | None, plan: Plan, run_dir: RunDir, *, leaving: bool = False) -> Sequence[int]:
    """The shard's rows, but those that leave by what the scan told (`leaving`: these too)."""
    marks = run_dir.scan_marks(shard.name)
    if not marks.exists():
        return range(sum(1 for _ in zip(plan.read(shard), range(limit or 1 << 62), strict=False)))
    with np.load(marks, allow_pickle=False) as arrays:
        leaves = arrays[LEAVES][:limit]
    rows: list[int] = (np.arange(len(leaves)) if leaving else np.flatnonzero(~leaves)).tolist()
    return rows


def _items(drawn: Sequence[tuple[str, int]], shards: Sequence[Shard], plan: Plan) -> Iterator[Item]:
    by_name = {shard.name: shard for shard in shards}
    for name, places in groupby(drawn, key=lambda place: place[0]):
        rows = [row for _, row in places]
        wanted = set(rows)
        for row, item in enumerate(plan.read(by_name[name], skip=rows[0]), start=rows[0]):
            if row in wanted:
                yield item
            if row >= rows[-1]:
                break


def learned(entries: Sequence[Entry], calibration: Calibration) -> dict[str, Any]:
    """The decider that these verdicts of the model teach, and what was tested. Rows that the model did not judge are left out."""
    judged = [entry for entry in entries if _judged(entry)]
    order = np.random.default_rng(calibration.seed).permutation(len(judged))
    signals = [judged[i].get("signals", {}) for i in order]
    poor = np.array([judged[i]["action"] != "keep" for i in order], bool)
    half = len(judged) // 2
    model = fit(signals[:half], poor[:half], columns_of(signals[:half], calibration.step.kinds))
    fitted, tested = (Told(model.chances(signals[part]), poor[part]) for part in (slice(half), slice(half, None)))

    def cut(side: Side) -> Cut:
        enough = half >= rows_needed(calibration.agreement, calibration.alpha)
        return loosest(fitted, tested, side, calibration.agreement, calibration.alpha) if enough else Cut(None, 0, 0, 0.0)

    cuts = {"keep": cut("below")} | ({"drop": cut("above")} if calibration.drops else {})
    told = {"agreement": calibration.agreement, "confidence": 1 - ALPHA, "judged": len(judged), "poor": int(poor.sum())}
    decider = Decider(model, cuts["keep"].threshold, cuts["drop"].threshold if "drop" in cuts else None)
    return {"decider": decider.to_dict(), "told": told | {fate: one._asdict() for fate, one in cuts.items()}}


def _judged(entry: Entry) -> bool:
    """Whether this is the model's verdict: no refusal, no rule's, no scan's."""
    return "rejected" not in entry and entry["action"] != "quarantine" and not entry.get("reason", "").startswith(RULE)


def _say(record: dict[str, Any], calibration: Calibration) -> None:
    told = record["told"]
    sides = [fate for fate in ("keep", "drop") if told.get(fate, {}).get("threshold") is not None]
    if sides:
        for fate in sides:
            cut = told[fate]
            log.info(
                "cascade: rows to %s are told without the model: it agreed on %d of %d test rows, %.4f or more with confidence %g",
                fate, cut["right"], cut["n"], cut["lower"], told["confidence"],
            )  # fmt: skip
        return
    best = told["keep"]
    log.warning(
        "WARNING: the cascade decides nothing: among %d rows that the model judged, no group told by signals agrees at a rate of %g "
        "(nearest: %d of %d kept, %.3f with confidence %g). The model is asked about every row.",
        told["judged"], calibration.agreement, best["right"], best["n"], best["lower"], told["confidence"],
    )  # fmt: skip
