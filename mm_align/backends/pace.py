"""How many requests are under way at an endpoint at once: more while it answers, half as many when it pushes back.

Additive increase, multiplicative decrease, as TCP does it (Jacobson and Karels, 1988). The thresholds are this toolkit's choice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from statistics import median

log = logging.getLogger(__name__)

START = 4  # requests at once before anything is known; doubles with each round of answers until the first push-back
WINDOW = 16  # answers of a kind whose median latency is looked at
SLOW = 4.0  # times the best median so far: more at once then only makes a longer queue


class Pace:
    """A limit that several threads share. `most`: never more than this at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(START, most))
        self._doubling = True
        self._cut = 0.0  # by the monotonic clock: when the limit was last halved
        self._under_way = 0
        self._free = threading.Condition()
        self._latencies: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._best: dict[Hashable, float] = {}

    @contextmanager
    def turn(self, closed: threading.Event) -> Iterator[None]:
        """Waits until one more may be under way, or `closed` is set."""
        with self._free:
            while self._under_way >= int(self.limit) and not closed.is_set():
                self._free.wait(0.1)
            self._under_way += 1
        try:
            yield
        finally:
            with self._free:
                self._under_way -= 1
                self._free.notify_all()

    def answered(self, kind: Hashable, seconds: float) -> None:
        """A request went well. kind: such as take equally long."""
        with self._free:
            seen = self._latencies[kind]
            seen.append(seconds)
            if len(seen) == WINDOW and self._is_slow(kind, median(seen)):
                seen.clear()
                self._doubling = False
                self._lower(self.limit - 1, "answers slowly")
                return
            self.limit = min(self.most, self.limit + (1 if self._doubling else 1 / self.limit))

    def _is_slow(self, kind: Hashable, now: float) -> bool:
        self._best[kind] = min(now, self._best.get(kind, now))
        return now > SLOW * self._best[kind]

    def pushed_back(self, begun: float) -> None:
        """A request that was sent at `begun` met an endpoint that has too much to do. One wave of them is one push-back."""
        with self._free:
            self._doubling = False
            if begun >= self._cut:
                self._cut = time.monotonic()
                self._lower(self.limit / 2, "has too much to do")

    def _lower(self, limit: float, why: str) -> None:
        if self.limit > 1:
            self.limit = max(1.0, limit)
            log.info("the endpoint %s; %d requests at once from now on", why, int(self.limit))
