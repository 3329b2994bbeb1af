"""One block of samples in, one verdict each out: signals, what rules make of them, and a costlier step for the rows they leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..disk.journal import Entry
from ..records import Sample, Verdict
from ..run.plan import Look, Step
from .base import Filter, Signals, kinds_of
from .rules import RULE, Rule

if TYPE_CHECKING:
    from .cascade import Cascade
    from .scanned import Scanned


@dataclass(slots=True)
class FilterStep:
    """Tells the signals of a block, drops what a rule wants gone and asks `then` about the rest (None: they are kept as they are).

    `scanned`: where signals were told before any row is judged, comparisons with other rows among them; a row that the scan refused leaves
    by the scan's reason. Without it the filters tell of each block on its own, and what only all rows together tell is None.
    `scorers` are filters that ask models: in turn, each about the rows that the rules over what is told so far leave open; what nobody
    asked about a row is None. A rule is applied as soon as all its signals are told. A dropped row has action "drop" and reason
    "rule:TEXT" of the first rule that wants it gone; in `report_only` it stays, is asked about everything, and bears the rule as a flag.
    `cascade` spares `then` the rows that their signals decide as it would. Every verdict carries its row's signals.
    """

    filters: Sequence[Filter]
    rules: Sequence[Rule] = ()
    then: Step | None = None
    report_only: bool = False
    scorers: Sequence[Filter] = ()
    scanned: Scanned | None = None
    cascade: Cascade | None = None

    @property
    def kinds(self) -> dict[str, type]:
        return kinds_of([*self.filters, *self.scorers])

    def __call__(self, samples: Sequence[Sample]) -> list[Verdict]:
        signals = self._told(samples)
        told = set(kinds_of(self.filters))
        fates = [self._fate(row, told) for row in signals]
        for one in self.scorers:
            self._score(one, samples, signals, [i for i, fate in enumerate(fates) if fate is None])
            told.update(one.names)
            fates = [fate or self._fate(row, told) for fate, row in zip(fates, signals, strict=True)]
        left = [i for i, fate in enumerate(fates) if fate is None]
        answers = self._answers({i: samples[i] for i in left}, signals)
        return [fates[i] or self._with_signals(answers[i], row) for i, row in enumerate(signals)]

    @property
    def asks(self) -> bool:
        """Whether a model is asked about rows that no rule lets leave."""
        return self.then is not None or bool(self.scorers)

    def look(self, sample: Sample) -> Look:
        """What of a sample's pictures is needed: once signals are told, pixels are only for the rows about which a model is asked."""
        if self.scanned is None:
            return "pixels"
        return "pixels" if self.asks and self._fate(self.scanned.of(sample), set(kinds_of(self.filters))) is None else "nothing"

    def describe(self) -> dict[str, Any]:
        """What goes into reports: the signals told and the rules applied."""
        return {"signals": list(self.kinds), "rules": [rule.text for rule in self.rules], "report_only": self.report_only}

    def _told(self, samples: Sequence[Sample]) -> list[Entry]:
        """A new mapping a sample with every name; None for what only scorers would tell."""
        blank: Entry = dict.fromkeys(self.kinds)
        if self.scanned is not None:
            rows = [self.scanned.of(sample) for sample in samples]
            return [row if "rejected" in row else blank | row for row in rows]
        columns = [one(samples) for one in self.filters]
        told = [{name: value for column in columns for name, value in column[i].items()} for i in range(len(samples))]
        return [blank | {name: value for name, value in row.items() if name in blank} for row in told]

    def _score(self, one: Filter, samples: Sequence[Sample], signals: Sequence[Entry], asked: Sequence[int]) -> None:
        for i, told in zip(asked, one([samples[i] for i in asked]) if asked else (), strict=True):
            signals[i].update(told)

    def _wants_gone(self, signals: Signals, told: set[str]) -> Rule | None:
        """The first rule, among those all of whose signals are told, that holds for the row."""
        cuts = self.scanned.cuts if self.scanned is not None else None
        ready = (rule for rule in self.rules if told.issuperset(rule.names))
        return next((rule for rule in ready if rule(signals, cuts) is True), None)

    def _fate(self, row: Entry, told: set[str]) -> Verdict | None:
        """The verdict that needs no further question."""
        if "rejected" in row:
            return Verdict("quarantine", reason=row["rejected"], explanations={"scan": row["detail"]})
        rule = None if self.report_only else self._wants_gone(row, told)
        if rule is None:
            return None
        seen = ", ".join(f"{name} = {row.get(name)}" for name in rule.names)
        return Verdict("drop", reason=RULE + rule.text, explanations={"rule": seen}, signals=row)

    def _answers(self, samples: Mapping[int, Sample], signals: Sequence[Signals]) -> dict[int, Verdict]:
        """A verdict for each row that is left: the cascade's where it has one, else what `then` says."""
        settled = {i: self.cascade.settle(sample, signals[i]) for i, sample in samples.items()} if self.cascade is not None else {}
        asked = [i for i in samples if settled.get(i) is None]
        said = dict(zip(asked, self._ask([samples[i] for i in asked]), strict=True))
        if self.cascade is not None:
            said = {i: self.cascade.reviewed(signals[i], answer) for i, answer in said.items()}
        return {i: verdict for i, verdict in settled.items() if verdict is not None} | said

    def _ask(self, samples: Sequence[Sample]) -> Sequence[Verdict]:
        if self.then is None or not samples:
            return [Verdict("keep")] * len(samples)
        return self.then(samples)

    def _with_signals(self, answer: Verdict, signals: Signals) -> Verdict:
        rule = self._wants_gone(signals, set(self.kinds)) if self.report_only else None
        flags = answer.flags if rule is None else (*answer.flags, RULE + rule.text)
        return dataclasses.replace(answer, signals=signals, flags=flags)
