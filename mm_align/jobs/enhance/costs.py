"""What the endpoints of `mmalign enhance-data` were asked over all starts and by all workers of a run, and what it cost."""

from __future__ import annotations

import logging
import uuid
from functools import reduce
from typing import TYPE_CHECKING, Any

from ..endpoint_fields import told_of_costs, usage_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_tools.run.directory import RunDir

    from ...backends.usage import Usage
    from .config import EnhanceConfig

log = logging.getLogger(__name__)
PRICES = ("price_in", "price_out")


class Spent:
    """The counts of one process in a file of its own, so that processes on any machines count without waiting for each other.

    A kill loses the counts of the block that was under way.
    """

    def __init__(self, run_dir: RunDir, usage: Usage) -> None:
        self.path = run_dir.usage / f"{uuid.uuid4()}.json"
        self.usage, self.kept = usage, dict.fromkeys(usage.to_dict(), 0)

    def remember(self) -> None:
        """Nothing is written where nothing was asked since."""
        from data_tools.disk.durable import to_json, write_atomic

        now = self.usage.to_dict()
        if now != self.kept:
            write_atomic(self.path, to_json(now))
            self.kept = now


def spent_in(config: EnhanceConfig, *run_dirs: RunDir) -> dict[str, Any]:
    """For the report: what all processes of all starts asked, and its cost where prices are given; empty where no endpoint was asked."""
    from data_tools.disk.durable import read_json

    from ...backends.usage import together

    kept = [read_json(path) or {} for run_dir in run_dirs for path in run_dir.usage.glob("*.json")]
    return told_of_costs(config, reduce(together, kept, {}))


def prices_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all slices of a run were given, by their records; none, with a warning, where they differ: then only tokens can be told."""
    given = [{name: record["given"].get(name) for name in PRICES} for record in records]
    if all(one == given[0] for one in given):
        return given[0]
    log.warning("the slices were given different prices: what they cost together is not told")
    return {}


def estimate_line(config: EnhanceConfig, counts: Mapping[str, int], rows: int, total: int | None) -> str:
    """What `total` rows would take by what `rows` took; a million where their number is not known."""
    asked = total or 1_000_000
    scaled = {name: round(count * asked / rows) for name, count in counts.items()}
    told = told_of_costs(config, scaled | {"kept": 0, "untold": 0})
    without = "" if "cost" in told else " (--price-in and --price-out say what a million tokens cost)"
    return f"all {asked} rows, by these: {usage_line(told)}{without}"
