"""The table of searches: ways to spend more than one answer a question. Each takes models and rewards as arguments."""

from collections.abc import Callable
from typing import Any

from .best_of_n import Choice, best_of_n
from .replay_audit import Change, Flips, replay_audit

SEARCHES: dict[str, Callable[..., Any]] = {
    "best_of_n": best_of_n,
}

__all__ = ["SEARCHES", "Change", "Choice", "Flips", "best_of_n", "replay_audit"]
