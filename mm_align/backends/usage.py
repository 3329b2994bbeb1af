"""What endpoints were asked and what they counted: requests, tokens, and what they cost at given prices."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

NAMES = ("requests", "answers", "untold", "kept", "prompt_tokens", "completion_tokens")


class Usage:
    """Counts that several threads and endpoints share.

    requests: sent, those tried again among them. answers: that came and could be read; untold: those of them without token counts.
    kept: answers taken from the request cache. prompt_tokens, completion_tokens: as the endpoint counts them.
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(NAMES, 0)
        self._lock = threading.Lock()

    def sent(self) -> None:
        self._add(requests=1)

    def taken(self) -> None:
        """An answer from the cache."""
        self._add(kept=1)

    def answered(self, answer: Any) -> None:
        """Tokens by either naming: prompt and completion (chat), input and output (typed decisions)."""
        told = answer.get("usage") if isinstance(answer, Mapping) else None
        counts = told if isinstance(told, Mapping) else {}
        asked = _whole(counts.get("prompt_tokens", counts.get("input_tokens")))
        written = _whole(counts.get("completion_tokens", counts.get("output_tokens")))
        untold = asked is None or written is None
        self._add(answers=1, untold=int(untold), prompt_tokens=asked or 0, completion_tokens=written or 0)

    def _add(self, **more: int) -> None:
        with self._lock:
            for name, count in more.items():
                self._counts[name] += count

    def to_dict(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


def together(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Both counts added up."""
    return {name: int(one.get(name, 0)) + int(other.get(name, 0)) for name in NAMES}


def cost(counts: Mapping[str, int], price_in: float | None, price_out: float | None) -> float | None:
    """At prices a million tokens, in their currency; None without a price."""
    if price_in is None and price_out is None:
        return None
    return (counts["prompt_tokens"] * (price_in or 0.0) + counts["completion_tokens"] * (price_out or 0.0)) / 1e6


def _whole(count: Any) -> int | None:
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
