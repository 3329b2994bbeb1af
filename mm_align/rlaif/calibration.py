"""How far a judge's probabilities can be trusted where the truth is known: reliability by bin, calibration error, agreement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from data_tools.records import Claim

from ..config import UserError
from .judge import outside, rejected

Truths: TypeAlias = Mapping[tuple[str, int], bool]
FORM = '{"response_id": "r1:0", "index": 0, "true": true}'


class Bin(NamedTuple):
    """Claims whose p(yes) / (p(yes) + p(no)) lies in [low, high): how many, their mean probability, the share that is true."""

    low: float
    high: float
    n: int
    mean: float
    true: float


class Calibration(NamedTuple):
    """ece: expected calibration error [Guo et al. 2017], the mean over claims of |share true - mean probability| of their bin.

    agreement: share of claims that are accepted where true and rejected where false; balanced: the mean of that share among the true
    and among the false ones. outside: mean probability of neither yes nor no. unknown: judged claims without a truth.
    """

    n: int
    true: int
    ece: float
    agreement: float
    balanced: float
    outside: float
    unknown: int
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "bins": [one._asdict() for one in self.bins]}


def calibrate(judged: Iterable[Claim], truths: Truths, bins: int = 10) -> Calibration:
    """Compare judged claims with the truth. Raises UserError where no claim has one."""
    known, unknown = [], 0
    for claim in judged:
        true = truths.get((claim.response_id, claim.index))
        unknown += true is None
        if true is not None:
            known.append((claim, true))
    if not known:
        raise UserError(f"none of the {unknown} judged claims has a truth; a line of the file tells one: {FORM}")
    right = [(true, rejected(claim) != true) for claim, true in known]
    shares = [sum(ok) / len(ok) for truth in (True, False) if (ok := [ok for true, ok in right if true == truth])]
    table = tuple(_bins(known, bins))
    ece = sum(one.n * abs(one.true - one.mean) for one in table) / len(known)
    agreement, balanced = sum(ok for _, ok in right) / len(right), sum(shares) / len(shares)
    outside_ = sum(outside(claim) for claim, _ in known) / len(known)
    return Calibration(len(known), sum(true for true, _ in right), ece, agreement, balanced, outside_, unknown, table)


def _bins(known: list[tuple[Claim, bool]], bins: int) -> Iterator[Bin]:
    """Bins of equal width that hold something."""
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for claim, true in known:
        p = probability(claim)
        held[min(int(p * bins), bins - 1)].append((p, true))
    for k, rows in enumerate(held):
        if rows:
            yield Bin(k / bins, (k + 1) / bins, len(rows), sum(p for p, _ in rows) / len(rows), sum(true for _, true in rows) / len(rows))


def probability(claim: Claim) -> float:
    """p(yes) / (p(yes) + p(no)); 0.5 where the judge gives neither any."""
    yes, no = claim.p_yes or 0.0, claim.p_no or 0.0
    return yes / (yes + no) if yes + no else 0.5


def read_truths(path: Path) -> dict[tuple[str, int], bool]:
    """Truths of claims by answer and number. Raises UserError for a line that tells none."""
    truths = {}
    for number, row in _rows(path):
        if not isinstance(row.get("true"), bool) or not isinstance(row.get("response_id"), str) or not isinstance(row.get("index"), int):
            raise UserError(f"{path}, line {number}: a claim's truth looks like {FORM}, found {json.dumps(row)[:200]}")
        truths[row["response_id"], row["index"]] = row["true"]
    return truths


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the truths {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}") from error
        if row is not None:
            yield number, row if isinstance(row, dict) else {"found": row}
