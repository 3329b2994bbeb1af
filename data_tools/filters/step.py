"""One block of samples in, one verdict each out: signals, what rules make of them, and costlier steps for the rows they leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from ..plan import Step
from ..records import Sample, Verdict
from .base import Filter, Signals, Value, kinds_of
from .rule_terms import Cuts
from .rules import Rule


@dataclass(slots=True)
class FilterStep:
    """Tells the signals of a block, drops what a rule wants gone and asks `then` about the rest (None: they are kept as they are).

    `scorers` are filters that ask models: in turn, each about the rows that the rules over what is told so far leave open; what nobody
    asked about a row is None. A rule is applied as soon as all its signals are told. A dropped row has action "drop" and reason
    "rule:TEXT" of the first rule that wants it gone; in `report_only` it stays, is asked about everything, and bears the rule as a flag.
    Every verdict carries its row's signals.
    """

    filters: Sequence[Filter]
    rules: Sequence[Rule] = ()
    then: Step | None = None
    report_only: bool = False
    knowledge: Cuts | None = None
    scorers: Sequence[Filter] = ()

    @property
    def kinds(self) -> dict[str, type]:
        return kinds_of([*self.filters, *self.scorers])

    def __call__(self, samples: Sequence[Sample]) -> list[Verdict]:
        signals = self.signals(samples)
        told = {name for one in self.filters for name in one.names}
        fates = [self._fate(row, told) for row in signals]
        for one in self.scorers:
            self._score(one, samples, signals, [i for i, rule in enumerate(fates) if rule is None or self.report_only])
            told.update(one.names)
            fates = [fate or self._fate(row, told) for fate, row in zip(fates, signals, strict=True)]
        asked = [i for i, rule in enumerate(fates) if rule is None or self.report_only]
        answers = dict(zip(asked, self._ask([samples[i] for i in asked]), strict=True))
        return [_verdict(told, fates[i], answers.get(i)) for i, told in enumerate(signals)]

    def signals(self, samples: Sequence[Sample]) -> list[dict[str, Value]]:
        """What the filters tell, one mapping a sample; None for what only scorers would."""
        columns = [one(samples) for one in self.filters]
        later: dict[str, Value] = dict.fromkeys(kinds_of(self.scorers))
        return [{name: value for column in columns for name, value in column[i].items()} | later for i in range(len(samples))]

    def _score(self, one: Filter, samples: Sequence[Sample], signals: Sequence[dict[str, Value]], asked: Sequence[int]) -> None:
        for i, told in zip(asked, one([samples[i] for i in asked]) if asked else (), strict=True):
            signals[i].update(told)

    def describe(self) -> dict[str, Any]:
        """What goes into reports: the signals told and the rules applied."""
        return {"signals": list(self.kinds), "rules": [rule.text for rule in self.rules], "report_only": self.report_only}

    def _fate(self, signals: Signals, told: AbstractSet[str]) -> Rule | None:
        ready = (rule for rule in self.rules if told >= set(rule.names))
        return next((rule for rule in ready if rule(signals, self.knowledge) is True), None)

    def _ask(self, samples: Sequence[Sample]) -> Sequence[Verdict]:
        if self.then is None or not samples:
            return [Verdict("keep")] * len(samples)
        return self.then(samples)


def _verdict(signals: Signals, rule: Rule | None, answer: Verdict | None) -> Verdict:
    if answer is None:
        assert rule is not None
        seen = ", ".join(f"{name} = {signals.get(name)}" for name in rule.names)
        return Verdict("drop", reason=f"rule:{rule.text}", explanations={"rule": seen}, signals=signals)
    flags = answer.flags if rule is None else (*answer.flags, f"rule:{rule.text}")
    return dataclasses.replace(answer, signals=signals, flags=flags)
