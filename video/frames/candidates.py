"""The frames that a selector may choose among, and what it may ask about them: scores for a query, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Ask = Callable[[np.ndarray], np.ndarray]
CHUNK = 32


@dataclass(eq=False)
class Candidates:
    """N frames by their times [N], in seconds, rising, and the two questions that selectors ask of some or all of them.

    ask_score: places [m] -> scores [m], higher is nearer to the query. ask_embedding: places [m] -> [m, D]. query: [D] in the same
    space, for methods that weigh embeddings by it. Each place is asked once and remembered; `asked` counts them.
    """

    times: np.ndarray
    ask_score: Ask | None = None
    ask_embedding: Ask | None = None
    query: np.ndarray | None = None
    _scores: dict[int, float] = field(default_factory=dict, repr=False)
    _embeddings: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.times = np.asarray(self.times, np.float64)
        if self.times.ndim != 1 or not len(self.times) or not np.all(np.diff(self.times) > 0):
            raise ValueError(f"times of candidates are [N], rising, at least one; got shape {self.times.shape}")

    @classmethod
    def known(cls, *, scores: Any = None, embeddings: Any = None, times: Any = None, query: Any = None) -> Candidates:
        """From what is there already: scores [N], embeddings [N, D]; times default to one frame a second."""
        scores, embeddings = (None if given is None else np.asarray(given) for given in (scores, embeddings))
        given = [array for array in (scores, embeddings) if array is not None]
        if times is None and not given:
            raise ValueError("candidates need times, scores or embeddings")
        count = len(times) if times is not None else len(given[0])
        if any(len(array) != count for array in given):
            raise ValueError(f"{count} candidates need as many scores and embeddings, got {[array.shape for array in given]}")
        return cls(
            np.arange(count) if times is None else times,
            None if scores is None else lambda places: scores[places],
            None if embeddings is None else lambda places: embeddings[places],
            None if query is None else np.asarray(query),
        )

    @classmethod
    def watched(
        cls,
        times: Any,
        look: Callable[[np.ndarray], Any],
        *,
        score: Callable[[Any, str], Any] | None = None,
        embed: Callable[[Any], Any] | None = None,
        text: str = "",
        query: Any = None,
    ) -> Candidates:
        """From a film: look(places) -> frames, which score(frames, text) -> [m] and embed(frames) -> [m, D] are given when asked.

        At most CHUNK frames are looked at at once, so that memory does not grow with the film.
        """
        return cls(
            times,
            None if score is None else lambda places: _in_chunks(lambda some: score(look(some), text), places),
            None if embed is None else lambda places: _in_chunks(lambda some: embed(look(some)), places),
            None if query is None else np.asarray(query),
        )

    def __len__(self) -> int:
        return len(self.times)

    @property
    def asked(self) -> int:
        """Of how many frames a score was asked."""
        return len(self._scores)

    @property
    def fps(self) -> float:
        """Candidates a second, to six decimals; 1 for a single one."""
        return round((len(self) - 1) / float(self.times[-1] - self.times[0]), 6) if len(self) > 1 else 1.0

    def scores(self, places: np.ndarray | None = None) -> np.ndarray:
        """float64 [m], of all candidates without `places`. ValueError where nobody scores, or a score is no number."""
        if self.ask_score is None:
            raise ValueError("this method needs a scorer: give scores, or score(frames, query)")
        wanted = np.arange(len(self)) if places is None else np.asarray(places, np.int64)
        new = np.array([place for place in dict.fromkeys(wanted.tolist()) if place not in self._scores], np.int64)
        if len(new):
            found = np.asarray(self.ask_score(new), np.float64)
            if found.shape != new.shape or not np.isfinite(found).all():
                raise ValueError(f"a scorer gives one finite number a frame: asked for {len(new)}, got shape {found.shape}")
            self._scores.update(zip(new.tolist(), found.tolist(), strict=True))
        return np.array([self._scores[place] for place in wanted.tolist()], np.float64)

    def embeddings(self) -> np.ndarray:
        """float64 [N, D]. ValueError where nobody embeds, or a value is no number."""
        if self._embeddings is None:
            if self.ask_embedding is None:
                raise ValueError("this method needs embeddings of the frames: give embeddings, or embed(frames)")
            found = np.asarray(self.ask_embedding(np.arange(len(self))), np.float64)
            if found.ndim != 2 or len(found) != len(self) or not np.isfinite(found).all():
                raise ValueError(f"embeddings of {len(self)} frames are [{len(self)}, D] of finite numbers, got shape {found.shape}")
            self._embeddings = found
        return self._embeddings


def _in_chunks(ask: Callable[[np.ndarray], Any], places: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(ask(places[first : first + CHUNK])) for first in range(0, len(places), CHUNK)])
