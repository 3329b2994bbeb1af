"""What the endpoints of `mmalign enhance-data` were asked over all starts of a run, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..endpoint_fields import told_of_costs, usage_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from data_tools.shards import RunDir

    from ...backends.usage import Usage
    from .enhance import EnhanceConfig


class Spent:
    """The counts of earlier starts and of this one. A kill loses those of the block that was under way."""

    def __init__(self, run_dir: RunDir, usage: Usage) -> None:
        self.run_dir, self.usage = run_dir, usage
        self.before: Mapping[str, int] = run_dir.record.get("usage", {})

    def remember(self) -> None:
        if self.total():
            self.run_dir.remember("usage", self.total())

    def total(self) -> dict[str, int]:
        """Empty where no endpoint was asked."""
        from ...backends.usage import together

        now = together(self.before, self.usage.to_dict())
        return now if any(now.values()) else {}


def estimate_line(config: EnhanceConfig, counts: Mapping[str, int], rows: int, total: int | None) -> str:
    """What `total` rows would take by what `rows` took; a million where their number is not known."""
    asked = total or 1_000_000
    scaled = {name: round(count * asked / rows) for name, count in counts.items()}
    told = told_of_costs(config, scaled | {"kept": 0, "untold": 0})
    without = "" if "cost" in told else " (--price-in and --price-out say what a million tokens cost)"
    return f"all {asked} rows, by these: {usage_line(told)}{without}"
