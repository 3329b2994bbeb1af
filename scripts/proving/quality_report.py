"""Tables and a plot of the quality models' proof, from the files of its measures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures_page import write_figures
from quality_runs import SUBTLE, VARIANTS, Plan

NAMES = {"both": "contrast and rewriting", "contrast": "contrast alone", "rewriting": "rewriting alone", "neither": "neither"}
POOLS = {"": "raw captions of all kinds", "gross_": "raw captions without subtle errors"}
COMPARED = (("contrast", "neither"), ("rewriting", "neither"), ("both", "neither"), ("both", "contrast"), ("both", "rewriting"))


def subtle(score: Mapping[str, float]) -> float | None:
    """Mean AUROC of the kinds that are wrong about an object, its colour, number or place, among those there are."""
    found = [score[kind] for kind in sorted(SUBTLE) if kind in score]
    return sum(found) / len(found) if found else None


Figure = Callable[[Mapping[str, Any]], float | None]
FIGURES: dict[str, Figure] = {
    "decision, AUROC": lambda m: m["decision"]["all"] if m["rewriting"]["rewritten"] else None,
    "decision, AUROC, needs the picture": lambda m: m["decision"].get("needs_image") if m["rewriting"]["rewritten"] else None,
    "score, AUROC": lambda m: m["score"]["all"],
    "score, AUROC, needs the picture": lambda m: m["score"].get("needs_image"),
    "score, AUROC, subtle errors": lambda m: subtle(m["score"]),
    "score, rank correlation": lambda m: m["spearman"],
    "judged rows: score, AUROC of B": lambda m: m["judged"]["score"]["B"],
    "judged rows: score, AUROC of C": lambda m: m["judged"]["score"]["C"],
    "captions as they leave, F1": lambda m: m["rewriting"]["enhanced"]["f1"],
    "captions as they leave, recall": lambda m: m["rewriting"]["enhanced"]["recall"],
    "captions as they leave, hallucinating": lambda m: m["rewriting"]["enhanced"]["hallucinating"],
    "rewrites, F1": lambda m: m["rewriting"]["after"] and m["rewriting"]["after"]["f1"],
    "rewrites, hallucinating": lambda m: m["rewriting"]["after"] and m["rewriting"]["after"]["hallucinating"],
}
PLOTTED = (
    "score, AUROC, subtle errors",
    "score, rank correlation",
    "judged rows: score, AUROC of B",
    "captions as they leave, F1",
    "captions as they leave, hallucinating",
)


def write_report(plan: Plan, seeds: Sequence[int], out: Path, images: Path, page: Path | None) -> None:
    """`out`: every figure; `images`: the plot; `page`: Markdown whose part between the marks is replaced by the tables."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted((plan.work / "measures").glob("*.json"))}
    runs = {name: {s: found[f"{name}-{s}"] for s in seeds if f"{name}-{s}" in found} for name in VARIANTS}
    told = {
        "title": "SceneWorld: quality models of the same judged pairs",
        "seeds": list(seeds),
        "heldout": plan.heldout,
        "judged_rows": next((one["judged"]["rows"] for one in found.values() if "judged" in one), 0),
        "judged": json.loads((plan.quality / "report.json").read_text())["kinds"],
        "variants": {n: {key: values(run, figure) for key, figure in FIGURES.items()} for n, run in runs.items() if run and n != "mlm"},
        "differences": {f"{pool}{a} - {pool}{b}": differences(runs, pool + a, pool + b) for pool in POOLS for a, b in COMPARED},
        "single": single(runs["mlm"]),
        "others": {name: found[name] for name in ("tiny-aitqe", "clip") if name in found},
        "measures": found,
        "wall_minutes": {name: minutes(plan, name, runs[name]) for name in VARIANTS if runs[name]},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    images.mkdir(parents=True, exist_ok=True)
    plot(told, images / "quality_ablation.png")
    lines = tables(told)
    if page is not None:
        write_figures(page, "\n".join(lines))
    print("\n".join(lines))


def values(runs: Mapping[int, Any], figure: Figure) -> list[float | None]:
    """A figure of each seed."""
    return [figure(run) for run in runs.values()]


def differences(runs: Mapping[str, Mapping[int, Any]], a: str, b: str) -> dict[str, list[float]]:
    """Of each figure that both have, seed by seed."""
    both = [seed for seed in runs[a] if seed in runs[b]]
    pairs = {key: [(figure(runs[a][s]), figure(runs[b][s])) for s in both] for key, figure in FIGURES.items()}
    return {key: [round(x - y, 4) for x, y in told if x is not None and y is not None] for key, told in pairs.items()}


def single(runs: Mapping[int, Any]) -> dict[str, dict[str, list[float]]]:
    """Single scores: AUROC of all, of what needs the picture, and rank correlation, of each metric and each seed."""
    metrics = [key for key in next(iter(runs.values()), {}) if key not in ("rows", "unread")]
    return {
        metric: {
            "AUROC": [run[metric]["score"]["all"] for run in runs.values()],
            "needs the picture": [run[metric]["score"].get("needs_image", float("nan")) for run in runs.values()],
            "rank correlation": [run[metric]["spearman"] for run in runs.values()],
        }
        for metric in metrics
    }


def minutes(plan: Plan, name: str, runs: Mapping[int, Any]) -> list[float]:
    files = (plan.model(name, seed).parent / "took.json" for seed in runs)
    return [round(json.loads(file.read_text())["seconds"] / 60, 1) for file in files if file.is_file()]


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(told: Mapping[str, Any]) -> list[str]:
    lines = [f"Mean of seeds (least to most); {told['heldout']:,} held-out rows of SceneWorld, {told['judged_rows']:,} judged ones."]
    for pool, what in POOLS.items():
        there = [name for name in NAMES if pool + name in told["variants"]]
        if there:
            lines += ["", f"{what[0].upper()}{what[1:]}:", "", *ablation(told, pool, there)]
    return [*lines, "", "Keeping or dropping by one number (AUROC of bad captions against good ones):", "", *baselines(told)]


def ablation(told: Mapping[str, Any], pool: str, there: Sequence[str]) -> list[str]:
    """Figures by variant, then differences seed by seed."""
    variants = [told["variants"][pool + name] for name in there]
    lines = ["| | " + " | ".join(NAMES[name] for name in there) + " |", "|---" * (1 + len(there)) + "|"]
    lines += [f"| {key} | " + " | ".join(shown(v[key]) for v in variants) + " |" for key in FIGURES]
    lines += ["", "| difference of each seed | " + " | ".join(PLOTTED) + " |", "|---" * (1 + len(PLOTTED)) + "|"]
    for a, b in COMPARED:
        of = told["differences"][f"{pool}{a} - {pool}{b}"]
        lines.append(f"| {a} - {b} | " + " | ".join(", ".join(f"{value:+.3f}" for value in of[key]) or "-" for key in PLOTTED) + " |")
    return lines


def baselines(told: Mapping[str, Any]) -> list[str]:
    lines = ["| | all bad captions | those that need the picture | rank correlation with the true score |", "|---|---|---|---|"]
    if "both" in told["variants"]:
        ours = told["variants"]["both"]
        lines.append(
            f"| AITQE-style, decision | {shown(ours['decision, AUROC'])} | {shown(ours['decision, AUROC, needs the picture'])} | |"
        )
        score = [shown(ours[key]) for key in ("score, AUROC", "score, AUROC, needs the picture", "score, rank correlation")]
        lines.append(f"| AITQE-style, overall score | {' | '.join(score)} |")
    for metric, figures in told["single"].items():
        lines.append(f"| MLM-Filter-style, {metric.removeprefix('mlm.')} | " + " | ".join(shown(v) for v in figures.values()) + " |")
    if "clip" in told["others"]:
        clip = told["others"]["clip"]["similarity"]
        lines.append(f"| CLIP-style score | {clip['score']['all']:.3f} | {clip['score']['needs_image']:.3f} | {clip['spearman']:.3f} |")
    return lines


def shown(found: Sequence[float | None]) -> str:
    """Mean (least to most); a dash where a variant has no such figure."""
    there = [value for value in found if value is not None]
    if not there:
        return "-"
    mean = sum(there) / len(there)
    return f"{mean:.3f} ({min(there):.3f} to {max(there):.3f})" if len(there) > 1 else f"{mean:.3f}"


def plot(told: Mapping[str, Any], path: Path) -> None:
    """One panel a figure, one row of panels a pool; a dot a seed, a line at the mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    pools = [pool for pool in POOLS if any(pool + name in told["variants"] for name in NAMES)]
    size = (3.1 * len(PLOTTED), 3.0 * len(pools))
    figure, panels = plt.subplots(len(pools), len(PLOTTED), figsize=size, constrained_layout=True, squeeze=False)
    for pool, row in zip(pools, panels, strict=True):
        row[0].set_ylabel(POOLS[pool], fontsize=8)
        for panel, key in zip(row, PLOTTED, strict=True):
            draw(panel, {name: told["variants"][pool + name][key] for name in NAMES if pool + name in told["variants"]})
            panel.set_title(key, fontsize=9)
    figure.suptitle(told["title"], fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw(panel: Any, by_name: Mapping[str, Sequence[float | None]]) -> None:
    for at, (name, values_of) in enumerate(by_name.items()):
        found = [value for value in values_of if value is not None]
        panel.plot([at] * len(found), found, "o", alpha=0.7, color="tab:blue" if name == "both" else "tab:gray")
        panel.hlines(sum(found) / max(1, len(found)), at - 0.3, at + 0.3, color="black")
    panel.set_xticks(range(len(by_name)), list(by_name), rotation=30, ha="right")
