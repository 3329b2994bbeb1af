"""Several sequences with a common beginning in one row: the beginning once, then what each goes on with, none seeing another.

A row is a tree of token runs written depth first. The place j of a row is seen by the places j <= i < until[j], where until[j] is the
end of the run's subtree: ancestors are seen, siblings are not. Positions go on from the parent run, so every token has the
position that it has in its own sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

Ids = np.ndarray  # int64 [n]


class Rows(NamedTuple):
    """Where the tokens of N sequences stand in B rows of L places.

    sequence, token [B, L]: which token of which sequence stands there (the first sequence that has it); -1 for padding.
    until [B, L]: see above; padding is seen by itself only. places: for each sequence, the flat place b * L + j of each token.
    """

    sequence: np.ndarray
    token: np.ndarray
    until: np.ndarray
    places: list[np.ndarray]

    def take(self, values: Sequence[np.ndarray], padding: int) -> np.ndarray:
        """[B, L]: of each sequence's `values`, one a token, the one that belongs to the place."""
        found = np.full(self.token.shape, padding, np.int64)
        for number, mine in enumerate(values):
            here = self.sequence == number
            found[here] = mine[self.token[here]]
        return found


class _Run(NamedTuple):
    """Tokens `start` to `end` of the sequences `members`, which all have them; then the runs in which they part."""

    members: list[int]
    start: int
    end: int


def shared_rows(sequences: Sequence[Ids], groups: Sequence[Sequence[int]]) -> Rows:
    """One row a group of sequences. Every sequence is in exactly one group, and none is empty."""
    return _placed(sequences, [list(_runs(sequences, list(group), 0)) for group in groups])


def duplicated_rows(sequences: Sequence[Ids]) -> Rows:
    """One row a sequence."""
    return _placed(sequences, [[_Run([number], 0, len(ids))] for number, ids in enumerate(sequences)])


def _runs(sequences: Sequence[Ids], members: list[int], start: int) -> Iterator[_Run]:
    """Depth first: what all members share from `start` on, then each set of members that goes on alike."""
    end = _common_end([sequences[m] for m in members], start)
    if end > start:
        yield _Run(members, start, end)
    ways: dict[int, list[int]] = {}
    for member in members:
        if len(sequences[member]) > end:
            ways.setdefault(int(sequences[member][end]), []).append(member)
    for way in ways.values():
        yield from _runs(sequences, way, end)


def _common_end(sequences: Sequence[Ids], start: int) -> int:
    first, end = sequences[0], min(map(len, sequences))
    for other in sequences[1:]:
        differs = np.flatnonzero(first[start:end] != other[start:end])
        end = start + int(differs[0]) if len(differs) else end
    return end


def _placed(sequences: Sequence[Ids], rows: Sequence[Sequence[_Run]]) -> Rows:
    length = max(sum(run.end - run.start for run in runs) for runs in rows)
    sequence, token = np.full((2, len(rows), length), -1, np.int64)
    until = np.tile(np.arange(1, length + 1), (len(rows), 1))
    places = [np.empty(len(ids), np.int64) for ids in sequences]
    for b, runs in enumerate(rows):
        at = 0
        for number, run in enumerate(runs):
            span = slice(at, at + run.end - run.start)
            sequence[b, span], token[b, span] = run.members[0], np.arange(run.start, run.end)
            until[b, span] = at + _subtree(runs[number:])
            for member in run.members:
                places[member][run.start : run.end] = b * length + np.arange(span.start, span.stop)
            at = span.stop
    return Rows(sequence, token, until, places)


def _subtree(runs: Sequence[_Run]) -> int:
    """Tokens of the first run and of those behind it that belong to its members."""
    within = set(runs[0].members)
    size = 0
    for run in runs:
        if not within.issuperset(run.members):
            break
        size += run.end - run.start
    return size
