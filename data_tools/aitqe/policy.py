"""Which captions to rewrite, given what the quality model said about them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ..records import Verdict
from .parser import ASPECTS, HIGHEST, LOWEST, Reply, in_range

if TYPE_CHECKING:
    from ..run.plan import ShardRule

POLICIES = ("model", "threshold", "always", "never", "score-only")

# From here on the model prefers the rewriting branch, which is what greedy decoding would have written.
_PREFERS_REWRITE = 0.5


class Decision(NamedTuple):
    """What a policy wants: "keep" or "rewrite" with the proposal there is, or "ask" the model for one; and why."""

    wish: Literal["keep", "rewrite", "ask"]
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """When to rewrite.

    "model": exactly when the model offers a rewrite [R]. "threshold": when the overall score is under `min_overall` or an aspect under its
    floor; the model is asked again, with the answer's start forced, where it offered none (`second_pass`). "always": every readable row.
    "never" and "score-only" are one behaviour under two names: judge, change nothing. All but "model" are this toolkit's choice.
    `max_rewrite_fraction`: see `quota`. Raises ValueError for an unknown kind, an unknown aspect, or a number off its scale.
    """

    kind: str = "model"
    min_overall: float = 7.0
    floors: Mapping[str, float] = field(default_factory=dict)
    second_pass: bool = True
    max_rewrite_fraction: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in POLICIES:
            raise ValueError(f"unknown policy {self.kind!r}; there are {', '.join(POLICIES)}")
        if unknown := [key for key in self.floors if key not in ASPECTS]:
            raise ValueError(f"floors for unknown aspects {unknown}; there are {', '.join(ASPECTS)}")
        for name, value in {"min_overall": self.min_overall, **self.floors}.items():
            if not in_range(value):
                raise ValueError(f"{name} is {value}; scores go from {LOWEST} to {HIGHEST}")
        if self.max_rewrite_fraction is not None:
            _check_fraction(self.max_rewrite_fraction)

    def decide(self, reply: Reply) -> Decision:
        """The wish for a row with an answer."""
        if reply.status == "unparsable":
            return Decision("keep", "unparsable")
        if self.kind in ("never", "score-only"):
            return Decision("keep", self.kind)
        if self.kind == "model":
            return self._follow(reply)
        if self.kind == "always":
            return Decision("ask" if reply.recaption is None else "rewrite", "always")
        return self._compare(reply)

    def decide_unread(self, p_rewrite: float) -> Decision:
        """The wish for a row of which only the probability of the rewriting branch is known (mode "decide")."""
        if self.kind in ("never", "score-only"):
            return Decision("keep", self.kind)
        wants = self.kind == "always" or p_rewrite >= _PREFERS_REWRITE
        return Decision("ask" if wants else "keep", self.kind)

    def describe(self) -> str:
        """The policy in one line, for audits."""
        limits = [f"min_overall={self.min_overall:g}", *(f"{k}>={v:g}" for k, v in sorted(self.floors.items()))]
        if not self.second_pass:
            limits.append("no second pass")
        options = limits if self.kind == "threshold" else []
        if self.max_rewrite_fraction is not None:
            options.append(f"max_rewrite_fraction={self.max_rewrite_fraction:g}")
        return f"{self.kind}({', '.join(options)})" if options else self.kind

    def shard_rule(self) -> ShardRule | None:
        """The rule to apply once a shard is judged, or None where rows decide alone."""
        return None if self.max_rewrite_fraction is None else quota(self.max_rewrite_fraction)

    def _follow(self, reply: Reply) -> Decision:
        if reply.recaption is not None:
            return Decision("rewrite", "model")
        return Decision("keep", "recaption_cut" if "cut:recaption" in reply.flags else "model")

    def _compare(self, reply: Reply) -> Decision:
        if reply.overall is None or not in_range(reply.overall):
            return Decision("keep", "no_score" if reply.overall is None else "score_out_of_range")
        below = reply.overall < self.min_overall or any(self._under_floor(reply, key) for key in self.floors)
        if not below:
            return Decision("keep", "score_above_threshold")
        if reply.recaption is not None:
            return Decision("rewrite", "score_below_threshold")
        return Decision("ask", "score_below_threshold") if self.second_pass else Decision("keep", "no_recaption")

    def _under_floor(self, reply: Reply, key: str) -> bool:
        score = reply.scores.get(key)
        return score is not None and in_range(score) and score < self.floors[key]


def quota(max_rewrite_fraction: float) -> ShardRule:
    """At most floor(fraction * judged rows) rewrites a shard: the surest ones by `p_rewrite`, ties by row number, unknown last.

    The others keep their raw caption with reason "quota" (the proposal stays). Judged rows are those kept or rewritten; dropped and
    quarantined ones do not count. Needs 16 bytes a rewritten row. This toolkit's choice. Raises ValueError outside 0..1.
    """
    _check_fraction(max_rewrite_fraction)

    def rule(verdicts: Iterable[tuple[int, Verdict]]) -> Callable[[int, Verdict], Verdict]:
        judged, rows, unsure = 0, array("q"), array("d")
        for row, verdict in verdicts:
            judged += verdict.action in ("keep", "rewrite")
            if verdict.action == "rewrite":
                rows.append(row)
                unsure.append(_unsureness(verdict))
        allowed = int(Decimal(str(max_rewrite_fraction)) * judged)  # decimal: 0.29 of 100 is 29 and not 28
        if allowed >= len(rows):
            return lambda row, verdict: verdict
        first_out = np.lexsort((rows, unsure))[allowed]
        limit = (unsure[first_out], rows[first_out])
        return lambda row, verdict: verdict if verdict.action != "rewrite" or (_unsureness(verdict), row) < limit else _refuse(verdict)

    return rule


def _unsureness(verdict: Verdict) -> float:
    return float("inf") if verdict.p_rewrite is None else -verdict.p_rewrite


def _refuse(verdict: Verdict) -> Verdict:
    return replace(verdict, action="keep", text=None, reason="quota")


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"max_rewrite_fraction is {fraction}; it is a share from 0 to 1")
