"""One block of samples in, one verdict each out: signals, what rules make of them, and a costlier step for the rows they leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..plan import Step
from ..records import Sample, Verdict
from .base import Filter, Signals, kinds_of
from .rule_terms import Cuts
from .rules import Rule


@dataclass(slots=True)
class FilterStep:
    """Tells the signals of a block, drops what a rule wants gone and asks `then` about the rest (None: they are kept as they are).

    A dropped row has action "drop" and reason "rule:TEXT" of the first rule that wants it gone; in `report_only` it stays and bears
    that as a flag. Every verdict carries its row's signals.
    """

    filters: Sequence[Filter]
    rules: Sequence[Rule] = ()
    then: Step | None = None
    report_only: bool = False
    knowledge: Cuts | None = None

    @property
    def kinds(self) -> dict[str, type]:
        return kinds_of(self.filters)

    def __call__(self, samples: Sequence[Sample]) -> list[Verdict]:
        signals = self.signals(samples)
        fates = [self._fate(told) for told in signals]
        asked = [i for i, rule in enumerate(fates) if rule is None or self.report_only]
        answers = dict(zip(asked, self._ask([samples[i] for i in asked]), strict=True))
        return [_verdict(told, fates[i], answers.get(i)) for i, told in enumerate(signals)]

    def signals(self, samples: Sequence[Sample]) -> list[Signals]:
        """What the filters tell, one mapping a sample."""
        columns = [one(samples) for one in self.filters]
        return [{name: value for part in parts for name, value in part.items()} for parts in zip(*columns, strict=True)]

    def describe(self) -> dict[str, Any]:
        """What goes into reports: the signals told and the rules applied."""
        return {"signals": list(self.kinds), "rules": [rule.text for rule in self.rules], "report_only": self.report_only}

    def _fate(self, signals: Signals) -> Rule | None:
        return next((rule for rule in self.rules if rule(signals, self.knowledge) is True), None)

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
