"""What the endpoints of `mmalign enhance-data` were asked over all starts of a run, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def told_of_costs(config: EnhanceConfig, counts: Mapping[str, int]) -> dict[str, Any]:
    """For the report: the counts, and their cost where prices are given."""
    from ...backends.usage import cost

    price = cost(counts, config.price_in, config.price_out) if counts else None
    return dict(counts) | ({} if price is None else {"cost": round(price, 6)})


def usage_line(told: Mapping[str, Any]) -> str:
    """For people."""
    kept = f", {told['kept']} answers from the request cache" if told["kept"] else ""
    untold = f"; answers without token counts: {told['untold']}" if told["untold"] else ""
    price = f", cost {told['cost']:.4f}" if "cost" in told else ""
    tokens = f"{told['prompt_tokens']} tokens of prompts and {told['completion_tokens']} of answers"
    return f"endpoint: {told['requests']} requests{kept}, {tokens}{price}{untold}"


def estimate_line(config: EnhanceConfig, counts: Mapping[str, int], rows: int, total: int | None) -> str:
    """What `total` rows would take by what `rows` took; a million where their number is not known."""
    asked = total or 1_000_000
    scaled = {name: round(count * asked / rows) for name, count in counts.items()}
    told = told_of_costs(config, scaled | {"kept": 0, "untold": 0})
    without = "" if "cost" in told else " (--price-in and --price-out say what a million tokens cost)"
    return f"all {asked} rows, by these: {usage_line(told)}{without}"
