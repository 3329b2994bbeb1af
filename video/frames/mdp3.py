"""MDP3 (arXiv 2501.02885): a determinantal point process over stretches of film, each weighed beside the one before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .candidates import Candidates
from .dpp import Greedy, Kernel


def mdp3(candidates: Candidates, n: int, *, diversity: float = 0.2, segment: int = 32, released: bool = False) -> np.ndarray:
    """The film in stretches of `segment` candidates; dynamic programming over how many frames each gives. Within a stretch frames are
    chosen greedily (see `dpp`) beside the last frame chosen before it [R: AIDC-AI/Ovis, in VLMEvalKit's ovis/utils/mdp3.py: lamda 0.2,
    condition_size 1, and one stretch for the whole film; 32 is the paper's].

    What a stretch adds is the objective with the frame before it less the objective of that frame alone; `released` leaves that away
    and counts the frame twice, as the source does, which also fails where the last stretch is shorter.
    """
    kernel, count = Kernel.of(candidates, diversity), len(candidates)
    best = {0: _Way(0.0, 0, [])}  # by how many frames were chosen so far
    for first in range(0, count, segment):
        offered = np.arange(first, min(first + segment, count))
        found: dict[int | None, Greedy] = {}  # by the frame before: many ways end in the same one
        better: dict[int, _Way] = {}
        for given, way in sorted(best.items()):
            last = way.places[-1] if way.places else None
            if last not in found:
                found[last] = kernel.greedy(offered, min(n, len(offered)), last)
            for more in range(min(n - given, len(offered)) + 1):
                longer = way.joined(offered, found[last], more, released)
                if given + more not in better or longer.rank > better[given + more].rank:
                    better[given + more] = longer
        best = better
    return np.array(best[n].places, np.int64)


class _Way(NamedTuple):
    """An objective, the sum of squares of what stretches gave (even ways win where objectives are equal), and the places."""

    value: float
    squares: int
    places: list[int]

    @property
    def rank(self) -> tuple[float, int]:
        return round(self.value, 9), -self.squares

    def joined(self, offered: np.ndarray, found: Greedy, more: int, released: bool) -> _Way:
        """With the first `more` frames found; a stretch that gives nothing adds nothing."""
        if not more:
            return self
        added = float(found.values[more] - (0.0 if released else found.values[0]))
        return _Way(self.value + added, self.squares + more**2, self.places + sorted(int(p) for p in offered[found.order[:more]]))
