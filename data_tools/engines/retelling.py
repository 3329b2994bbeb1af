"""A slice's rows by the light of all slices: what leaves by copies or shares is settled anew, what a model said is remembered.

A slice compared its rows with one another only. Merged, a row may repeat one of another slice, and a share may end elsewhere. Rows that
left in their slice and stay among all are those about which no model was asked: `lacking` tells them before anything is changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any

from ..disk.journal import EntriesByRow, Entry, Journal
from ..filters.base import Filter, Signals
from ..filters.rules import RULE
from ..filters.step import FilterStep
from ..io import Shard
from ..records import Sample, Source, Verdict
from ..run.blocks import Prepared, journaled
from ..run.directory import RunDir
from ..run.judging import judge_block, judge_shard
from ..run.plan import Plan, Watch, source_of
from ..run.steady import steady

ROWS = 256  # looked at together where no model is asked
Models = Callable[[], FilterStep]  # the step of an undivided run, its models loaded


class Retelling:
    """A step like a slice's, whose models are its journal's entries of one shard; `models` are asked where these say nothing.

    Without `models` such rows are gathered in `lacking`, and what is told of them counts for nothing.
    """

    def __init__(self, step: FilterStep, entries: EntriesByRow, models: Models | None = None) -> None:
        self.entries, self.models = entries, models
        self.lacking: list[int] = []
        names = [set(one.names) for one in step.scorers]
        later = [set[str]().union(*names[i:]) for i in range(len(names))]
        scorers = [_Remembered(one, i, later[i], self) for i, one in enumerate(step.scorers)]
        self.rules = {rule.text: set(rule.names) for rule in step.rules}
        self.step = dataclasses.replace(step, then=self._then if step.then is not None else None, scorers=scorers, cascade=None)

    def lacks(self, samples: Sequence[Sample]) -> None:
        """Rows whose models were not asked and no one can be asked now."""
        self.lacking += [_row(sample) for sample in samples]

    def left_by(self, row: int) -> set[str] | None:
        """The signals of the rule by which a row left in its slice; None for one that stayed there."""
        entry = self.entries[row]
        reason = entry.get("reason", "")
        return self.rules.get(reason.removeprefix(RULE)) if entry.get("action") == "drop" and reason.startswith(RULE) else None

    def _then(self, samples: Sequence[Sample]) -> list[Verdict]:
        known = {i: self._said(_row(sample)) for i, sample in enumerate(samples) if self.left_by(_row(sample)) is None}
        unasked = [sample for i, sample in enumerate(samples) if i not in known]
        answers = iter(self._ask(unasked))
        return [known[i] if i in known else next(answers) for i in range(len(samples))]

    def _said(self, row: int) -> Verdict:
        verdict = Verdict.from_dict(self.entries[row])
        flags = tuple(flag for flag in verdict.flags if not flag.startswith(RULE))
        return dataclasses.replace(verdict, signals={}, flags=flags)

    def _ask(self, samples: Sequence[Sample]) -> Sequence[Verdict]:
        if not samples:
            return ()
        if self.models is None:
            self.lacks(samples)
            return [Verdict("keep")] * len(samples)
        then = self.models().then
        assert then is not None
        return then(samples)


class _Remembered:
    """A scorer of the step: what it told of a row in the slice, where it was asked there."""

    def __init__(self, one: Filter, number: int, later: Collection[str], whole: Retelling) -> None:
        self.one, self.number, self.later, self.whole = one, number, later, whole
        self.names, self.needs = one.names, one.needs
        self.kinds: dict[str, type] = getattr(one, "kinds", {})

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        unasked = [sample for sample in samples if not self._was_asked(_row(sample))]
        fresh = iter(self._ask(unasked))
        return [self._known(_row(sample)) if self._was_asked(_row(sample)) else next(fresh) for sample in samples]

    def _was_asked(self, row: int) -> bool:
        """A row that left in its slice was shown to the scorers that its rule had to wait for, and to those before them."""
        left_by = self.whole.left_by(row)
        return left_by is None or not left_by.isdisjoint(self.later)

    def _known(self, row: int) -> Signals:
        signals: dict[str, Any] = self.whole.entries[row].get("signals", {})
        return {name: signals.get(name) for name in self.names}

    def _ask(self, samples: Sequence[Sample]) -> Sequence[Signals]:
        if self.whole.models is None:
            self.whole.lacks(samples)
            return [dict.fromkeys(self.names)] * len(samples)
        return self.whole.models().scorers[self.number](samples) if samples else ()


def lacking(shard: str, step: FilterStep, entries: EntriesByRow) -> list[int]:
    """The rows of a shard that stay among all and about which a model was not asked, because they left in their slice."""
    retelling = Retelling(step, entries)
    stayed = (row for row in range(len(entries)) if "rejected" not in entries[row])
    while rows := [*islice(stayed, ROWS)]:
        retelling.step([Sample("", source=Source(shard, row)) for row in rows])
    return sorted({*retelling.lacking})


def retell_shard(
    shard: Shard, plan: Plan, run_dir: RunDir, entries: EntriesByRow, asked: Collection[int], watch: Watch, models: Models | None = None
) -> None:
    """Journal a verdict or a rejection for every row, as `judge_shard` does: of a row in `asked` by `models`, of others as remembered.

    Raises RunRefused where the shard is not what its slice read.
    """
    assert isinstance(plan.step, FilterStep)
    run_dir.refuse_changed(shard.name, shard.path)
    if plan.by_scan:
        return judge_shard(shard, plan, run_dir, watch)
    retelling = Retelling(plan.step, entries, models)
    step, wanted = retelling.step, frozenset(asked)
    told = dataclasses.replace(plan, step=step, look=lambda sample: "pixels" if _row(sample) in wanted else "nothing")
    with steady(shard, run_dir), Journal(run_dir.journal(shard.name)) as journal:

        def judged(block: list[Prepared]) -> list[Entry]:
            rows = [_refused_as_before(row, journal.rows + i, entries, step) for i, row in enumerate(block)]
            return judge_block(rows, told, watch)

        for new in journaled(shard, told, journal, judged):
            watch.block(shard, new)
            watch.check()


def _refused_as_before(row: Prepared, number: int, entries: EntriesByRow, step: FilterStep) -> Prepared:
    """A picture that could not be decoded for the model is not looked at again; a rule that needs no model comes first, as ever."""
    before: Entry = entries[number]
    if row.sample is None or "rejected" not in before or step.look(row.sample) == "nothing":
        return row
    return row._replace(sample=None, refused=before)


def _row(sample: Sample) -> int:
    return source_of(sample).row
