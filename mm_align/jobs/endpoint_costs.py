"""What endpoints were asked over all starts and by all processes of a run, and what it cost."""

from __future__ import annotations

import logging
import uuid
from functools import reduce
from typing import TYPE_CHECKING, Any

from .endpoint_fields import told_of_costs, usage_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from data_tools.run.directory import RunDir

    from ..backends.usage import Usage
    from .endpoint_fields import Priced

log = logging.getLogger(__name__)
PRICES = ("price_in", "price_out")


class Spent:
    """The counts of one process in a file of its own, so that processes on any machines count without waiting for each other.

    stage: of the run, where its stages are told apart. since: counts that an earlier stage remembers. A kill loses the counts of the
    block that was under way.
    """

    def __init__(self, run_dir: RunDir, usage: Usage, stage: str = "run", since: Mapping[str, int] | None = None) -> None:
        self.path = run_dir.usage / f"{stage}.{uuid.uuid4()}.json"
        self.usage, self.since = usage, since or {}
        self.kept = dict.fromkeys(usage.to_dict(), 0)

    def remember(self) -> None:
        """Nothing is written where nothing was asked since."""
        from data_tools.disk.durable import to_json, write_atomic

        now = {name: count - self.since.get(name, 0) for name, count in self.usage.to_dict().items()}
        if now != self.kept:
            write_atomic(self.path, to_json(now))
            self.kept = now


def spent_in(config: Priced, folders: Iterable[Path], stage: str | None = None) -> dict[str, Any]:
    """For the report: what all processes of all starts asked (for `stage`), by what `Spent` keeps in these folders, and its cost where
    prices are given; empty where no endpoint was asked."""
    from data_tools.disk.durable import read_json

    from ..backends.usage import together

    paths = [path for folder in folders for path in folder.glob("*.json") if stage in (None, path.name.rsplit(".", 2)[0])]
    return told_of_costs(config, reduce(together, (read_json(path) or {} for path in paths), {}))


def tell_total(asked: Mapping[str, Any] | None) -> None:
    """Print what all stages together asked of endpoints, where they asked any."""
    if asked:
        print(usage_line(asked))


def prices_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all slices of a run were given, by their records; none, with a warning, where they differ: then only tokens can be told."""
    given = [{name: record["given"].get(name) for name in PRICES} for record in records]
    if all(one == given[0] for one in given):
        return given[0]
    log.warning("the slices were given different prices: what they cost together is not told")
    return {}


def estimate_line(config: Priced, counts: Mapping[str, int], rows: int, total: int | None) -> str:
    """What `total` rows would take by what `rows` took; a million where their number is not known."""
    asked = total or 1_000_000
    scaled = {name: round(count * asked / rows) for name, count in counts.items()}
    told = told_of_costs(config, scaled | {"kept": 0, "untold": 0})
    without = "" if "cost" in told else " (--price-in and --price-out say what a million tokens cost)"
    return f"all {asked} rows, by these: {usage_line(told)}{without}"
