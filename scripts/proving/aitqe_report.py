"""Tables and a plot of the AITQE proof, from the files of its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aitqe_arms import ABLATION, arms_of
from aitqe_runs import NO_PAIRS, Plan, shifts
from figures_page import write_figures
from scipy.stats import t as student

Run = Mapping[str, Any]
FIGURES: dict[str, Callable[[Run], float | None]] = {
    "VQA accuracy": lambda run: run["questions"]["accuracy"],
    "captions, F1": lambda run: run["captions"]["f1"] if "captions" in run else None,
    "captions, hallucinating": lambda run: run["captions"]["hallucinating"] if "captions" in run else None,
    "captions, coverage": lambda run: run["captions"]["coverage"] if "captions" in run else None,
}
COMPARED = (
    ("aitqe", "raw"), ("recaption", "raw"), ("quality", "raw"), ("clip", "raw"), ("mlm", "raw"), ("random", "raw"),
    ("aitqe", "recaption"), ("aitqe", "quality"), ("aitqe", "clip"), ("aitqe", "mlm"), ("quality", "clip"), ("quality", "random"),
)  # fmt: skip
ABLATED = (("both", "raw"), ("rewriting", "raw"), ("both_drops", "raw"), ("contrast", "raw"), ("neither", "raw"), ("both", "rewriting"))
SHIFTS = {
    "rows": ("rows", "{:,.0f}"),
    "rewritten": ("rewritten", "{:.0%}"),
    "js_divergence": ("JS divergence from raw", "{:.4f}"),
    "words": ("words", "{:.1f}"),
    "distinct_1": ("distinct-1", "{:.4f}"),
    "distinct_2": ("distinct-2", "{:.4f}"),
    "edit_distance": ("edit distance of rewritten", "{:.2f}"),
    "damaged": ("captions still damaged", "{:.1%}"),
    "f1": ("objects of the captions, F1", "{:.3f}"),
    "hallucinating": ("captions that invent an object", "{:.1%}"),
}


def write_report(plan: Plan, names: Sequence[str], seeds: Sequence[int], out: Path, images: Path, page: Path | None) -> None:
    """`out`: every figure; `images`: the plot; `page`: Markdown whose part between the marks is replaced by the tables."""
    runs = {name: gather(plan, name, seeds) for name in names}
    titles = {**{name: arm.title for name, arm in arms_of(plan.tools).items()}, NO_PAIRS: "no pairs"}
    told = {
        "title": "AITQE: the same raw pairs, used in several ways" + ("" if plan.pairs else ", SceneWorld"),
        "seeds": list(seeds),
        "volumes": list(plan.sizes.volumes),
        "steps": plan.sizes.steps,
        "arms": {name: titles[name] for name in names if runs[name]},
        "figures": {name: by_volume(plan, runs[name]) for name in names if runs[name]},
        "differences": {f"{a} - {b}": differences(plan, runs, a, b) for a, b in (*COMPARED, *ABLATED) if runs.get(a) and runs.get(b)},
        "texts": shifts(plan, names, seeds),
        "cpu_minutes": round(sum(sum(run["cpu"].values()) for found in runs.values() for run in found.values()) / 60, 1),
        "runs": [run for found in runs.values() for run in found.values()],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    images.mkdir(parents=True, exist_ok=True)
    plot(told, images / "aitqe_arms.png")
    lines = tables(told)
    if page is not None:
        write_figures(page, "\n".join(lines))
    print("\n".join(lines))


def gather(plan: Plan, name: str, seeds: Sequence[int]) -> dict[tuple[int, int], Run]:
    """An arm's finished runs by volume and seed."""
    paths = {(volume, seed): plan.result(name, volume, seed) for volume in plan.sizes.volumes for seed in seeds}
    return {key: json.loads(path.read_text(encoding="utf-8")) for key, path in paths.items() if path.is_file()}


def by_volume(plan: Plan, runs: Mapping[tuple[int, int], Run]) -> dict[str, dict[str, list[float]]]:
    """Of each volume with runs: rows, and each figure's values, seed by seed."""
    found = {}
    for volume in plan.sizes.volumes:
        of_volume = [run for (v, _), run in runs.items() if v == volume]
        if of_volume:
            values = {key: [figure(run) for run in of_volume] for key, figure in FIGURES.items()}
            found[str(volume)] = {"rows": [run["rows"] for run in of_volume], **{k: v for k, v in values.items() if None not in v}}
    return found


def differences(plan: Plan, runs: Mapping[str, Mapping[tuple[int, int], Run]], a: str, b: str) -> dict[str, Any]:
    """One arm minus another by the same seed: of each volume, and of the mean over all volumes of seeds that have them all."""
    both = [key for key in runs[a] if key in runs[b]]
    found: dict[str, Any] = {}
    for volume in plan.sizes.volumes:
        seeds = [seed for v, seed in both if v == volume]
        if seeds:
            found[str(volume)] = {key: interval([_difference(runs, a, b, key, volume, s) for s in seeds]) for key in FIGURES}
    whole = [s for s in {seed for _, seed in both} if all((v, s) in both for v in plan.sizes.volumes)]
    if whole and len(plan.sizes.volumes) > 1:
        every = {key: [[_difference(runs, a, b, key, v, s) for v in plan.sizes.volumes] for s in sorted(whole)] for key in FIGURES}
        found["all"] = {key: interval([sum(row) / len(row) for row in rows]) for key, rows in every.items()}
    return found


def _difference(runs: Mapping[str, Mapping[tuple[int, int], Run]], a: str, b: str, key: str, volume: int, seed: int) -> float:
    ours, theirs = (FIGURES[key](runs[name][volume, seed]) for name in (a, b))
    return math.nan if ours is None or theirs is None else ours - theirs


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and Student's 95 % interval of a few seeds; without bounds for one."""
    mean = sum(values) / len(values)
    told: dict[str, Any] = {"mean": mean, "by_seed": list(values)}
    if len(values) > 1:
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
        half = float(student.ppf(0.975, len(values) - 1)) * spread
        told |= {"low": mean - half, "high": mean + half}
    return told


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(told: Mapping[str, Any]) -> list[str]:
    lines = []
    for volume in told["volumes"]:
        of_volume = {name: found[str(volume)] for name, found in told["figures"].items() if str(volume) in found}
        if of_volume:
            lines += ["", f"**{volume:,} raw pairs** (mean over seeds; least to most)", ""]
            lines += ["| | seeds | pairs left | " + " | ".join(FIGURES) + " |", "|---" * (3 + len(FIGURES)) + "|"]
            lines += [_arm_line(told["arms"][name], found) for name, found in of_volume.items()]
    for key in list(FIGURES)[:3]:
        lines += ["", f"**{key}, differences** in points, paired by seed: mean [95 % interval over seeds], and each seed", ""]
        columns = [*map(str, told["volumes"]), *(["all"] if any("all" in found for found in told["differences"].values()) else [])]
        heads = [f"{int(c):,} pairs" if c != "all" else "mean of the volumes" for c in columns]
        lines += ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(columns)) + "|"]
        lines += [_pair_line(told, pair, found, key, columns) for pair, found in told["differences"].items()]
    return [*lines, *_shift_lines(told)][1:]


def _arm_line(title: str, found: Mapping[str, Sequence[float]]) -> str:
    cells = [_spread(found[key]) if key in found else "" for key in FIGURES]
    return f"| {title} | {len(found['rows'])} | {sum(found['rows']) / len(found['rows']):,.0f} | {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f"{100 * mean:.1f} % ({100 * min(values):.1f} to {100 * max(values):.1f})"


def _pair_line(told: Mapping[str, Any], pair: str, found: Mapping[str, Any], key: str, columns: Sequence[str]) -> str:
    a, b = pair.split(" - ")
    cells = [_points(found[column][key]) if column in found else "" for column in columns]
    return f"| {told['arms'][a]}, minus {told['arms'][b]} | {' | '.join(cells)} |"


def _points(found: Mapping[str, Any]) -> str:
    if math.isnan(found["mean"]):
        return ""
    bounds = f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]" if "low" in found else ""
    return f"{100 * found['mean']:+.1f}{bounds}; {', '.join(f'{100 * value:+.1f}' for value in found['by_seed'])}"


def _shift_lines(told: Mapping[str, Any]) -> list[str]:
    lines = ["", f"**Texts** of each arm at {max(told['volumes']):,} raw pairs, mean over seeds", ""]
    shown = {key: head for key, head in SHIFTS.items() if any(key in row for rows in told["texts"].values() for row in rows)}
    lines += ["| | " + " | ".join(title for title, _ in shown.values()) + " |", "|---" * (1 + len(shown)) + "|"]
    for name, rows in told["texts"].items():
        values = {key: [row[key] for row in rows if row.get(key) is not None] for key in shown}
        cells = [shown[key][1].format(sum(v) / len(v)) if v else "" for key, v in values.items()]
        lines.append(f"| {arms_title(told, name)} | {' | '.join(cells)} |")
    return lines


def arms_title(told: Mapping[str, Any], name: str) -> str:
    return str(told["arms"].get(name, name))


# -- plot --------------------------------------------------------------------------------------------------------------


def plot(told: Mapping[str, Any], path: Path) -> None:
    """Each figure against the number of raw pairs: a line an arm through its means, a dot a seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    keys = list(FIGURES)[:3]
    figure, panels = plt.subplots(1, len(keys), figsize=(4.2 * len(keys), 4.4), layout="constrained")
    for panel, key in zip(panels, keys, strict=True):
        for name, found in told["figures"].items():
            points = {int(v): values[key] for v, values in found.items() if key in values}
            if not points or name in ABLATION or name == NO_PAIRS:
                continue
            means = [100 * sum(values) / len(values) for values in points.values()]
            (line,) = panel.plot(list(points), means, "-", label=told["arms"][name])
            for volume, values in points.items():
                panel.plot([volume] * len(values), [100 * value for value in values], ".", color=line.get_color(), alpha=0.6)
        panel.set_xscale("log", base=2)
        panel.set_xticks(told["volumes"], [f"{v:,}" for v in told["volumes"]])
        panel.set(xlabel="raw pairs", ylabel="%", title=key)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"{told['title']}, {len(told['seeds'])} seeds", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)
