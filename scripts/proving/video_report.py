"""What the runs on films add up to: the noise, the law and its optimum, regrets, arms, kinds of question; JSON, plots, tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from video_runs import ARMS, FRAMES, MAIN, TOKENS

from data_tools.disk.durable import to_json, write_atomic
from data_tools.scenes.films import KINDS
from video.budget import Limit, Refused, Runs, fit, optimum
from video.budget.cost import window

TITLE = "SceneWorld films: which split of a visual window is best"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


class Table(NamedTuple):
    """Every run's figures by (arm, frames, tokens, seed)."""

    rows: dict[tuple[str, int, int, int], dict[str, Any]]

    def loss(self, t: int, m: int, arm: str = MAIN, kind: str | None = None) -> float | None:
        row = self.rows.get((arm, t, m, 0))
        return None if row is None else float(row[f"loss/{kind}" if kind else "loss"])


def write_report(work: Path, out: Path, images: Path, page: Path | None, budgets: Sequence[int], swept: tuple[int, int]) -> None:
    """docs/results/video.json, plots, and the tables of `page` between its marks."""
    rows = [json.loads(path.read_text()) for path in sorted((work / "runs").glob("*.json"))]
    table = Table({(row["arm"], row["t"], row["m"], row["seed"]): row for row in rows})
    selectors = work / "selectors.json"
    told = {
        "title": TITLE,
        "recipe": rows[0]["recipe"],
        "noise": noise_of(table, swept),
        "law": law_of(table, budgets, noise_of(table, swept)["sd"]),
        "selectors": json.loads(selectors.read_text()) if selectors.exists() else None,
        "cpu_s": sum(row["cpu_s"] for row in rows),
        "runs": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, to_json(told))
    draw(table, told, images)
    text = tables(table, told, swept)
    print(text)
    if page:
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


# -- figures -----------------------------------------------------------------------------------------------------------


def noise_of(table: Table, swept: tuple[int, int]) -> dict[str, float]:
    """Standard deviation of the loss over seeds at one setting, and its share of the grid's spread."""
    same = [row["loss"] for (arm, t, m, _), row in table.rows.items() if (arm, t, m) == (MAIN, *swept)]
    grid = [loss for t in FRAMES for m in TOKENS if (loss := table.loss(t, m)) is not None]
    sd = statistics.stdev(same) if len(same) > 1 else float("nan")
    return {"seeds": len(same), "sd": sd, "spread": max(grid) - min(grid), "share": sd / (max(grid) - min(grid))}


def law_of(table: Table, budgets: Sequence[int], noise: float) -> dict[str, Any]:
    """The law of the grid's runs, its optimum at each budget, and the regret of it and of simple rules among the splits that were run."""
    grid = [(t, m, loss) for t in FRAMES for m in TOKENS if (loss := table.loss(t, m)) is not None]
    law = fit(Runs(*zip(*grid, strict=True)), noise=noise)
    found: dict[str, Any] = {"law": law.to_dict(), "budgets": {}}
    for budget in budgets:
        splits = {m: (min(budget // m, FRAMES[-1]), m) for m in TOKENS if budget // m >= 1}
        losses = {m: loss for m, (t, m_) in splits.items() if (loss := table.loss(t, m_)) is not None}
        if not losses:
            continue
        best = min(losses.values())
        rules = {
            "the law, among these splits": min(losses, key=lambda m: float(law.loss(*splits[m]))),
            "all frames": max(losses, key=lambda m: (splits[m][0], m)),
            "all tokens": max(losses),
            "square": _nearest(losses, budget**0.5),
        }
        told = {"losses": {f"{splits[m][0]}x{m}": loss for m, loss in losses.items()}}
        try:
            place = optimum(law, [Limit(window(), budget)])
            told["optimum"] = place.to_dict()
        except Refused as error:
            told["refused"] = str(error)
        told["regret"] = {rule: {"split": f"{splits[m][0]}x{m}", "regret": losses[m] - best} for rule, m in rules.items()}
        found["budgets"][str(budget)] = told
    return found


def _nearest(losses: Mapping[int, float], side: float) -> int:
    return min(losses, key=lambda m: abs(m - side))


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(table: Table, told: Mapping[str, Any], swept: tuple[int, int]) -> str:
    noise, law = told["noise"], told["law"]
    parts = [
        f"**{TITLE}**: mean loss of a held-out answer. One standard deviation over {noise['seeds']} seeds is {noise['sd']:.4f}, "
        f"{noise['share']:.1%} of the grid's spread of {noise['spread']:.3f}.",
        grid_table(table, "loss (SceneWorld films)", lambda row: f"{row['loss']:.3f}"),
        grid_table(table, "accuracy (SceneWorld films)", lambda row: f"{row['accuracy']:.1%}"),
        kinds_table(table),
        law_text(law),
        regret_table(law),
        arms_table(table, swept),
        selectors_table(told["selectors"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def grid_table(table: Table, title: str, shown: Any) -> str:
    head = f"| {title} | " + " | ".join(f"{m} tokens" for m in TOKENS) + " |\n|---|" + "---|" * len(TOKENS)
    cells = {(t, m): table.rows.get((MAIN, t, m, 0)) for t in FRAMES for m in TOKENS}
    lines = [f"| {t} frames | " + " | ".join(shown(row) if (row := cells[t, m]) else "" for m in TOKENS) + " |" for t in FRAMES]
    return "\n".join([head, *lines])


def kinds_table(table: Table) -> str:
    """What more frames and what more tokens buy, by kind of question: accuracy at the ends of both axes."""
    t0, t1, m0, m1 = FRAMES[0], FRAMES[-1], TOKENS[0], TOKENS[-1]
    ends = {name: table.rows.get((MAIN, *place, 0)) for name, place in (("few", (t0, m1)), ("frames", (t1, m1)), ("tokens", (t1, m0)))}
    if not all(ends.values()):
        return ""
    head = (
        f"| accuracy (SceneWorld films) | {t0} x {m1} | {t1} x {m1} | from frames | {t1} x {m0} | from tokens |\n|---|---|---|---|---|---|"
    )
    lines = []
    for kind in KINDS:
        few, both, coarse = (ends[name][f"accuracy/{kind}"] for name in ("few", "frames", "tokens"))  # type: ignore[index]
        lines.append(f"| {kind} | {few:.1%} | {both:.1%} | {100 * (both - few):+.1f} | {coarse:.1%} | {100 * (both - coarse):+.1f} |")
    return "\n".join([head, *lines])


def law_text(law: Mapping[str, Any]) -> str:
    told = law["law"]
    numbers = ", ".join(f"{name} = {value:.3g}" for name, value in told["parameters"].items())
    scores = "; ".join(f"{name} {score['loo']:.4f}" for name, score in told["scores"].items())
    refused = f" It may not place an optimum: {told['refusal']}" if told.get("refusal") else ""
    return f"The law (SceneWorld films, {len(told['scores'])} forms, leave-one-out error: {scores}): {told['form']}, {numbers}.{refused}"


def regret_table(law: Mapping[str, Any]) -> str:
    lines = ["| budget, tokens (SceneWorld films) | rule | split | loss above the best split |", "|---|---|---|---|"]
    for budget, told in law["budgets"].items():
        if "refused" in told:
            lines.append(f"| {budget} | the law's own optimum | refused: {told['refused']} | |")
        lines += [f"| {budget} | {rule} | {one['split']} | {one['regret']:.4f} |" for rule, one in told["regret"].items()]
    return "\n".join(lines) if len(lines) > 2 else ""


def arms_table(table: Table, swept: tuple[int, int]) -> str:
    t, m = swept
    places = [(t, k) for k in (1, 4, 16)] + [(k, m) for k in (1, 4, 16)]
    head = (
        "| loss by arm, frames-tokens (SceneWorld films) | "
        + " | ".join(f"{a} x {b}" for a, b in places)
        + " |\n|---|"
        + "---|" * len(places)
    )
    lines = []
    for arm in ARMS:
        losses = [table.loss(*place, arm) for place in places]
        if any(loss is not None for loss in losses):
            lines.append(f"| {arm} | " + " | ".join("" if loss is None else f"{loss:.3f}" for loss in losses) + " |")
    return "\n".join([head, *lines])


def selectors_table(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    head = f"| {found['frames']} of {found['of']} frames chosen (SceneWorld films) | needle | all questions |\n|---|---|---|"
    lines = [f"| {name} | {row['accuracy/needle']:.1%} | {row['accuracy']:.1%} |" for name, row in found["methods"].items()]
    return "\n".join([head, *lines])


# -- plots -------------------------------------------------------------------------------------------------------------


def draw(table: Table, told: Mapping[str, Any], images: Path) -> None:
    """video_curves.png (loss against tokens and frames) and video_kinds.png (accuracy by kind against frames)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for t in FRAMES:
        axes[0].plot(*_known([(m, table.loss(t, m)) for m in TOKENS]), marker="o", label=f"{t} frames")
    for m in TOKENS:
        axes[1].plot(*_known([(t, table.loss(t, m)) for t in FRAMES]), marker="o", label=f"{m} tokens")
    for axis, name, ticks in zip(axes, ("tokens a frame", "frames"), (TOKENS, FRAMES), strict=True):
        axis.set(xscale="log", xlabel=name, ylabel="loss of a held-out answer")
        axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.legend(fontsize=8)
    figure.suptitle("SceneWorld films: loss against tokens and frames")
    images.mkdir(parents=True, exist_ok=True)
    figure.savefig(images / "video_curves.png", dpi=100)
    plt.close(figure)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for kind in KINDS:
        axes[0].plot(*_known([(t, _accuracy(table, t, TOKENS[-1], kind)) for t in FRAMES]), marker="o", label=kind)
        axes[1].plot(*_known([(m, _accuracy(table, FRAMES[-1], m, kind)) for m in TOKENS]), marker="o", label=kind)
    names = (f"frames, {TOKENS[-1]} tokens each", f"tokens a frame, {FRAMES[-1]} frames")
    for axis, name, ticks in zip(axes, names, (FRAMES, TOKENS), strict=True):
        axis.set(xscale="log", xlabel=name, ylabel="accuracy", ylim=(0, 1.02))
        axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.legend(fontsize=8)
    figure.suptitle("SceneWorld films: what frames and what tokens buy, by kind of question")
    figure.savefig(images / "video_kinds.png", dpi=100)
    plt.close(figure)


def _accuracy(table: Table, t: int, m: int, kind: str) -> float | None:
    row = table.rows.get((MAIN, t, m, 0))
    return None if row is None else float(row[f"accuracy/{kind}"])


def _known(points: Sequence[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    kept = [(x, y) for x, y in points if y is not None]
    return [x for x, _ in kept], [y for _, y in kept]
