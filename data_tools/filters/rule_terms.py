"""What a rule is made of: comparisons, fractions, and, or, not, each True, False or None (unknown) for one row's signals."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Value = float | int | str | bool | None
Signals = Mapping[str, Value]
Side = Literal["top", "bottom"]

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class RuleError(ValueError):
    """A rule that cannot be read, or that compares what cannot be compared; the message shows where and what to do."""


@dataclass(frozen=True, slots=True)
class Share:
    """The greatest (`top`) or smallest (`bottom`) `percent` of all values of the signal `name`; 0 < percent <= 100."""

    name: str
    side: Side
    percent: float

    def __str__(self) -> str:
        return f"{self.name} in {self.side} {self.percent:g}%"


Cuts = Mapping[Share, float]


def cut(values: Iterable[Value], share: Share) -> float | None:
    """The value at which a share ends, itself inside: the k-th from its side, k = percent of the known values rounded down.

    Values that tie with it are all inside, so more rows than k may be. None where k is 0: then no row is inside.
    """
    known = sorted((float(v) for v in values if v is not None and not unknown(v) and not isinstance(v, str)), reverse=share.side == "top")
    # 10 % of 70 is 7, which floats would make 6.999...
    k = math.floor(share.percent * len(known) / 100 + 1e-9)
    return known[k - 1] if k else None


def cuts(shares: Iterable[Share], values: Mapping[str, Sequence[Value]]) -> dict[Share, float]:
    """Where each share ends among `values` (of every row, by signal); a share that holds no row is cut at infinity."""
    nothing = {"top": math.inf, "bottom": -math.inf}
    ends = {share: cut(values.get(share.name, ()), share) for share in shares}
    return {share: nothing[share.side] if end is None else end for share, end in ends.items()}


def unknown(value: Value) -> bool:
    """Whether a signal tells nothing: None, or a float that is no number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


class Term(Protocol):
    """A part of a rule. `names` are the signals it looks at, `shares` the fractions it needs to know the ends of."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def shares(self) -> tuple[Share, ...]: ...

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class Signal:
    """An operand that is a row's signal."""

    name: str


Operand = Signal | float | str | bool


def _value(operand: Operand, signals: Signals) -> Value:
    return signals.get(operand.name) if isinstance(operand, Signal) else operand


def _names(*operands: Operand) -> tuple[str, ...]:
    return tuple(operand.name for operand in operands if isinstance(operand, Signal))


def _shown(operand: Operand, value: Value) -> str:
    return f"{operand.name} (here {value!r})" if isinstance(operand, Signal) else repr(value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left op right`. Unknown where a signal is; RuleError where a text is put in order with a number."""

    left: Operand
    op: str
    right: Operand
    shares: tuple[Share, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return _names(self.left, self.right)

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        left, right = _value(self.left, signals), _value(self.right, signals)
        if unknown(left) or unknown(right):
            return None
        if isinstance(left, str) != isinstance(right, str):
            raise RuleError(f"{_shown(self.left, left)} {self.op} {_shown(self.right, right)}: a text and a number cannot be compared")
        return COMPARE[self.op](left, right)


@dataclass(frozen=True, slots=True)
class OneOf:
    """`signal in (a, b, ...)`."""

    operand: Signal
    choices: tuple[float | str | bool, ...]
    shares: tuple[Share, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.operand.name,)

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        value = _value(self.operand, signals)
        return None if unknown(value) else value in self.choices


@dataclass(frozen=True, slots=True)
class InShare:
    """`signal in top 30%`: at or beyond the share's end among all rows. Unknown where that end is not known."""

    share: Share

    @property
    def names(self) -> tuple[str, ...]:
        return (self.share.name,)

    @property
    def shares(self) -> tuple[Share, ...]:
        return (self.share,)

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        value, end = signals.get(self.share.name), knowledge.get(self.share)
        if unknown(value) or end is None:
            return None
        if isinstance(value, str):
            raise RuleError(f"{self.share}: {self.share.name} is a text (here {value!r}); only numbers have a top and a bottom")
        assert value is not None
        return value >= end if self.share.side == "top" else value <= end


@dataclass(frozen=True, slots=True)
class Yes:
    """A signal that is itself yes or no."""

    operand: Signal
    shares: tuple[Share, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.operand.name,)

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        value = _value(self.operand, signals)
        if unknown(value):
            return None
        if not isinstance(value, bool):
            raise RuleError(f"{_shown(self.operand, value)} is not yes or no: compare it, as in {self.operand.name} > 0")
        return value


@dataclass(frozen=True, slots=True)
class Known:
    """`signal is known`, or `is unknown`: the only term that is never unknown itself."""

    operand: Signal
    wanted: bool
    shares: tuple[Share, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.operand.name,)

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        return unknown(_value(self.operand, signals)) != self.wanted


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; of what is unknown, unknown."""

    part: Term

    @property
    def names(self) -> tuple[str, ...]:
        return self.part.names

    @property
    def shares(self) -> tuple[Share, ...]:
        return self.part.shares

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        told = self.part(signals, knowledge)
        return None if told is None else not told


@dataclass(frozen=True, slots=True)
class Join:
    """`and` (settled by one False) or `or` (settled by one True) of two or more parts; else unknown where a part is."""

    kind: Literal["and", "or"]
    parts: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.names)

    @property
    def shares(self) -> tuple[Share, ...]:
        return tuple(share for part in self.parts for share in part.shares)

    def __call__(self, signals: Signals, knowledge: Cuts) -> bool | None:
        settles = self.kind == "or"
        told = [part(signals, knowledge) for part in self.parts]
        if settles in told:
            return settles
        return None if None in told else not settles
