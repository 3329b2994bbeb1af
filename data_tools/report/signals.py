"""How the signals of a run's rows are distributed, in bounded memory, and which captions are the most frequent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .gallery import cut
from .sketches import Histogram

UNITS = 10_000  # a number is counted as an integer of 1e-4
VALUES = 64  # different texts of one signal that are counted; with more they are marks of single rows
COPIES = "exact.caption_copies"
FREQUENT = 20
CAPTION_CHARS = 120
QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}

Value = float | int | str | bool | None


class Distribution:
    """Values of one signal: how many are known; of numbers a histogram with two significant digits, of texts and yes or no a count each."""

    __slots__ = ("high", "known", "low", "numbers", "values")

    def __init__(self) -> None:
        self.known = 0
        self.numbers = Histogram()
        self.low: int | None = None
        self.high: int | None = None
        self.values: dict[str, int] | None = {}  # None: there were too many different ones

    def add(self, value: float | int | str | bool) -> None:
        self.known += 1
        if isinstance(value, str | bool):
            if self.values is not None:
                key = str(value).lower() if isinstance(value, bool) else (cut(value, CAPTION_CHARS) or "")
                self.values[key] = self.values.get(key, 0) + 1
                self._limit()
        elif value == value and abs(value) < 1e300:  # nan and infinities are known, and no numbers
            units = round(value * UNITS)
            self.numbers.add(two_digits(units), units)
            self._reach(units, units)

    def merge(self, other: Distribution) -> None:
        self.known += other.known
        self.numbers.merge(other.numbers)
        if other.low is not None and other.high is not None:
            self._reach(other.low, other.high)
        if self.values is None or other.values is None:
            self.values = None
            return
        for key, n in other.values.items():
            self.values[key] = self.values.get(key, 0) + n
        self._limit()

    def _reach(self, low: int, high: int) -> None:
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def _limit(self) -> None:
        """Whether all parts together hold too many values does not depend on how they were cut."""
        if self.values is not None and len(self.values) > VALUES:
            self.values = None

    def to_dict(self) -> dict[str, Any]:
        values = None if self.values is None else dict(sorted(self.values.items()))
        return {"known": self.known, "numbers": self.numbers.to_dict(), "low": self.low, "high": self.high, "values": values}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Distribution:
        out = cls()
        out.known, out.low, out.high, out.values = d["known"], d["low"], d["high"], d["values"]
        out.numbers = Histogram.from_dict(d["numbers"])
        return out

    def summary(self) -> dict[str, Any]:
        """Figures for people: quantiles are the lower ends of bins of two significant digits."""
        told: dict[str, Any] = {"known": self.known}
        if self.numbers.count and self.low is not None and self.high is not None:
            mean = self.numbers.total / self.numbers.count / UNITS
            told |= {"min": self.low / UNITS, "mean": round(mean, 6), "max": self.high / UNITS}
            told |= {name: (self.numbers.quantile(q) or 0) / UNITS for name, q in QUANTILES.items()}
            told["histogram"] = [[edge / UNITS, n] for edge, n in sorted(self.numbers.bins.items())]
        if self.values:
            told["counts"] = dict(sorted(self.values.items(), key=lambda item: (-item[1], item[0])))
        return told


class SignalStats:
    """The distributions of all signals over the rows that have any, and the captions that most rows have."""

    def __init__(self) -> None:
        self.rows = 0
        self.by_name: dict[str, Distribution] = {}
        self.captions: dict[str, int] = {}

    def add(self, caption: str, signals: Mapping[str, Value]) -> None:
        if not signals:
            return
        self.rows += 1
        for name, value in signals.items():
            one = self.by_name.get(name)
            if one is None:
                one = self.by_name[name] = Distribution()
            if value is not None:
                one.add(value)
        copies = signals.get(COPIES)
        if isinstance(copies, int) and copies > 1:
            self._frequent({cut(" ".join(caption.split()), CAPTION_CHARS) or "": copies})

    def merge(self, other: SignalStats) -> None:
        self.rows += other.rows
        for name, one in other.by_name.items():
            self.by_name.setdefault(name, Distribution()).merge(one)
        self._frequent(other.captions)

    def _frequent(self, more: Mapping[str, int]) -> None:
        """Every row of a caption tells how many rows have it in all, so the greatest numbers are those of the whole run."""
        for caption, copies in more.items():
            self.captions[caption] = max(copies, self.captions.get(caption, 0))
        if len(self.captions) > FREQUENT:
            self.captions = dict(sorted(self.captions.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT])

    def to_dict(self) -> dict[str, Any]:
        by_name = {name: one.to_dict() for name, one in sorted(self.by_name.items())}
        return {"rows": self.rows, "by_name": by_name, "captions": dict(sorted(self.captions.items()))}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> SignalStats:
        out = cls()
        out.rows, out.captions = d["rows"], dict(d["captions"])
        out.by_name = {name: Distribution.from_dict(one) for name, one in d["by_name"].items()}
        return out

    def summary(self) -> dict[str, Any]:
        """Rows with signals, each signal's figures, and the most frequent captions with the number of their rows."""
        frequent = sorted(self.captions.items(), key=lambda item: (-item[1], item[0]))
        return {
            "rows": self.rows,
            "signals": {name: self.by_name[name].summary() for name in sorted(self.by_name)},
            "frequent_captions": dict(frequent),
        }


@lru_cache(maxsize=1 << 16)
def two_digits(units: int) -> int:
    """The integer cut to its two first digits: 12345 -> 12000, so that bins are at most 10 % wide and few."""
    size = abs(units)
    if size < 100:
        return units
    step = 10 ** (len(str(size)) - 2)
    return int(size // step * step) * (1 if units > 0 else -1)
