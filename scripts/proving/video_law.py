"""Recovery of a known law of frames and tokens from noisy tables: how far each design of experiments and each noise lets it be found.

python scripts/proving/video_law.py --page docs/video.md   # twenty minutes on one core; figures, a plot and the page's tables

The law has its optimum at 120 frames of 50 tokens for T x M = 6000. Each cell of the study fits tables drawn anew; beside the tool's
figures stand those of an earlier study with unnamed constants (same optimum, designs and noises), where it had them.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(sys.path.pop(0))  # a script beside this one has the name of a package: their folder must not come first

import numpy as np
from figures_page import write_figures

from video.budget import Law, Limit, Refused, Runs, fit, optimum
from video.budget.cost import window
from video.budget.optimum import closed_form

WINDOW, BEST = 6000, (120.0, 50.0)
EXPONENTS, LEAST = (0.35, 0.45), 0.0832  # what both powers take off at the optimum: with E = 0.6 the loss there is 0.6832
NOISES = (0.0005, 0.002, 0.005)
SQUARES = tuple(side**2 for side in range(1, 15))
MARKS = ("<!-- law figures: begin -->", "<!-- law figures: end -->")
# 5, 50, 95 % of T*, and the greatest regret, of the earlier study.
EARLIER = {
    ("grid", 0.0005): ("117 / 120 / 125", "1.6e-5"),
    ("grid", 0.002): ("109 / 119 / 149", "5e-4"),
    ("grid", 0.005): ("94 / 122 / 175", "2.4e-3"),
    ("sweeps", 0.0005): ("116 / 121 / 125", ""),
    ("sweeps", 0.002): ("107 / 120 / 142", ""),
    ("sweeps", 0.005): ("76 / 120 / 183", ""),
    ("one budget", 0.0005): ("113 / 120 / 126", ""),
    ("one budget", 0.002): ("101 / 116 / 163", ""),
    ("one budget", 0.005): ("89 / 120 / inf", ""),
}


class Cell(NamedTuple):
    """One design at one noise: settings [n, 2], the form that is fitted ("auto": chosen)."""

    name: str
    settings: np.ndarray
    noise: float
    form: str


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--resamples", type=int, default=100, help="of each fit, for its interval")
    parser.add_argument("--out", default="docs/results/video_law.json")
    parser.add_argument("--images", default="docs/images", help="folder of the plot of one such law")
    parser.add_argument("--page", help="Markdown file whose tables between the marks are written anew")
    args = parser.parse_args(words)
    began = time.monotonic()
    told = {
        "law": {"E": 0.6, "exponents": EXPONENTS, "optimum": BEST, "window": WINDOW},
        "repeats": args.repeats,
        "resamples": args.resamples,
        "recovery": [recover(cell, args.repeats, args.resamples) for cell in cells()],
        "refusals": [refusals(name, law, args.repeats) for name, law in TRUTHS.items()],
    }
    told["seconds"] = round(time.monotonic() - began)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draw_example(Path(args.images) / "video_law.png")
    text = tables(told)
    print(text)
    if args.page:
        write_figures(Path(args.page), text, MARKS)


# The law and the designs


def true_law() -> dict[str, float]:
    """E + A T^-a + B M^-b, balanced at BEST."""
    (a, b), (frames, tokens) = EXPONENTS, BEST
    balance = LEAST / (1 / a + 1 / b)
    return {"E": 0.6, "A": balance / a * frames**a, "a": a, "B": balance / b * tokens**b, "b": b}


def additive(frames: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    law = true_law()
    return law["E"] + law["A"] * frames ** -law["a"] + law["B"] * tokens ** -law["b"]


TRUTHS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "the additive law": additive,
    "frames and tokens help each other": lambda t, m: additive(t, m) + 0.5 * t**-0.3 * m**-0.4,
    "frames make no difference": lambda t, m: additive(np.full_like(t, 32.0), m),
    "tokens make no difference": lambda t, m: additive(t, np.full_like(m, 25.0)),
    "noise alone": lambda t, m: np.full_like(t, 0.7),
}


def designs() -> dict[str, np.ndarray]:
    """Settings [n, 2]."""
    sweep = [(t, 49) for t in (8, 16, 32, 64, 96, 128)] + [(32, m) for m in SQUARES if m != 49]
    splits = np.round(np.exp(np.linspace(math.log(30), math.log(480), 6)))
    return {
        "grid": np.array([(t, m) for t in (8, 16, 32, 64, 128) for m in (4, 9, 25, 49, 196)], float),
        "sweeps": np.array(sweep, float),
        "one budget": np.array([(t, WINDOW / t) for t in splits], float),
    }


def cells() -> list[Cell]:
    """Every design at every noise, with the form that a user would get."""
    return [Cell(name, settings, noise, "auto") for name, settings in designs().items() for noise in NOISES]


def draw(settings: np.ndarray, noise: float, seed: Sequence[int], law: Callable[[np.ndarray, np.ndarray], np.ndarray] = additive) -> Runs:
    frames, tokens = settings.T
    return Runs(frames, tokens, law(frames, tokens) + noise * np.random.default_rng(seed).standard_normal(len(frames)))


# The study


def recover(cell: Cell, repeats: int, resamples: int) -> dict[str, Any]:
    """T* of every repeat, whether its 90 % interval holds the truth, the regret of its split, and what was refused."""
    places, held, regrets, refused, forms = [], 0, [], 0, Counter[str]()
    for seed in range(repeats):
        law = fit(
            draw(cell.settings, cell.noise, (round(cell.noise * 1e4), len(cell.settings), seed)), cell.form, resamples=resamples, seed=seed
        )
        forms[law.form] += 1
        places.append(vertex(law))
        try:
            found = optimum(law, [Limit(window(), WINDOW)])
        except Refused:
            refused += 1
            continue
        held += found.frames_interval.low <= BEST[0] <= found.frames_interval.high
        regrets.append(float(additive(np.array(found.frames), np.array(found.tokens)) - additive(*map(np.array, BEST))))
    told = repeats - refused
    print(f"{cell.name}, noise {cell.noise}: {refused} of {repeats} refused", file=sys.stderr, flush=True)
    return {
        "design": cell.name,
        "runs": len(cell.settings),
        "noise": cell.noise,
        "frames": np.quantile(places, [0.05, 0.5, 0.95], method="nearest").tolist(),
        "regret": max(regrets, default=None),
        "told": told,
        "held": held,
        "forms": dict(forms),
    }


def vertex(law: Law) -> float:
    """T* as the point estimate alone has it, refused or not; inf where the curve bends the wrong way."""
    if law.form == "additive":
        return closed_form(law.parameters, WINDOW)[0]
    if law.form == "iso_parabola":
        bend = law.parameters["zz"]
        return math.sqrt(WINDOW) * math.exp(-law.parameters["z"] / (2 * bend)) if bend > 0 else math.inf
    frames = np.exp(np.linspace(math.log(8), math.log(1500), 4000))
    return float(frames[law.loss(frames, WINDOW / frames).argmin()])


def refusals(name: str, law: Callable[[np.ndarray, np.ndarray], np.ndarray], repeats: int) -> dict[str, Any]:
    """Of tables of the grid at the middle noise: the forms chosen, and how often no optimum is told."""
    refused, forms = 0, Counter[str]()
    for seed in range(repeats):
        found = fit(draw(designs()["grid"], NOISES[1], (list(TRUTHS).index(name), seed), law), resamples=40, seed=seed)
        forms[found.form] += 1
        try:
            optimum(found, [Limit(window(), WINDOW)])
        except Refused:
            refused += 1
    print(f"{name}: {refused} of {repeats} refused", file=sys.stderr, flush=True)
    return {"truth": name, "refused": refused, "forms": dict(forms)}


# The page


def draw_example(path: Path) -> None:
    """What `mmalign video fit` draws of a grid at the middle noise."""
    from PIL import Image

    from mm_align.jobs.video.law_report import budgets, plot

    runs = draw(designs()["grid"], NOISES[1], (0,))
    law = fit(runs, resamples=400)
    drawn = plot(law, runs, budgets(law, 0.0), 0.0)
    if drawn is not None:
        Image.open(io.BytesIO(drawn)).convert("RGB").quantize(128).save(path, optimize=True)


def tables(told: dict[str, Any]) -> str:
    lines = [
        f"{told['repeats']} tables a row. T* is the point estimate's, refused or not, as in the earlier study; the rest is of optima told.",
        "",
        "| design | runs | noise of a run | T* 5 / 50 / 95 % | earlier | greatest regret | earlier | told | 90 % interval holds 120 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in told["recovery"]:
        earlier, regret = EARLIER[row["design"], row["noise"]]
        places = " / ".join(f"{place:.0f}" for place in row["frames"])
        own = "" if row["regret"] is None else f"{row['regret']:.1e}"
        held = f"{row['held']} of {row['told']}" if row["told"] else ""
        lines.append(
            f"| {row['design']} | {row['runs']} | {row['noise']} | {places} | {earlier} | {own} | {regret} | "
            f"{row['told']} of {told['repeats']} | {held} |"
        )
    lines += ["", "| truth (grid, noise 0.002) | no optimum told | forms chosen |", "|---|---|---|"]
    for row in told["refusals"]:
        forms = ", ".join(f"{name} {count}" for name, count in sorted(row["forms"].items()))
        lines.append(f"| {row['truth']} | {row['refused']} of {told['repeats']} | {forms} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
