"""The curves of a run as one picture: losses, learning rates, and whatever else was logged by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.disk.durable import put_in_place

SKIPPED = ("runtime", "per_second", "flos", "epoch", "step", "train_loss", "/rows", "/unanswered")  # of the machine, or no curve
INTERVAL = ("_low", "_high")  # a benchmark's name with these: its 95 % interval
COLUMNS = 3


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) of every number that was logged at two steps or more; losses first."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if isinstance(value, int | float) and not any(word in name for word in SKIPPED):
                found.setdefault(name, []).append((int(entry["step"]), float(value)))
    several = {name: points for name, points in found.items() if len({step for step, _ in points}) > 1}
    return dict(sorted(several.items(), key=lambda item: ("loss" not in item[0], item[0])))


def panels(names: Sequence[str]) -> list[list[str]]:
    """Which curves share a panel: a name and its `eval_` sister. Ends of intervals have none of their own."""
    sisters = {f"eval_{name}" for name in names} | {f"{name}{end}" for name in names for end in INTERVAL}
    return [[name, *([f"eval_{name}"] if f"eval_{name}" in names else [])] for name in names if name not in sisters]


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Write the picture whole or not at all; False where nothing was logged twice. ImportError without matplotlib."""
    from matplotlib.figure import Figure  # no pyplot: no state, no display

    found = curves(history)
    if not found:
        return False
    shown = panels(list(found))
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4 * min(len(shown), COLUMNS), 2.6 * rows), layout="constrained")
    for number, names in enumerate(shown, 1):
        axes = figure.add_subplot(rows, min(len(shown), COLUMNS), number)
        for name in names:
            axes.plot(*zip(*found[name], strict=True), marker="." if len(found[name]) < 30 else "", label=name)
            if all(f"{name}{end}" in found for end in INTERVAL):
                low, high = (found[f"{name}{end}"] for end in INTERVAL)
                axes.fill_between([step for step, _ in low], [value for _, value in low], [value for _, value in high], alpha=0.2)
        axes.set_title(names[0], fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        if len(names) > 1:
            axes.legend(fontsize=7)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=110)
    put_in_place(temporary, path)
    return True
