"""Which split of a visual window is best: tiny video models over frames x tokens, the fitted law, its optimum at budgets it never saw.

python scripts/proving/video.py all --work runs/video          # everything; the same command continues a stopped run
python scripts/proving/video.py noise --work runs/video        # four seeds of one setting: how sure a loss is
python scripts/proving/video.py grid --work runs/video         # five numbers of frames by five of tokens, the arm that models use
python scripts/proving/video.py arms --work runs/video         # sampling against averaging, on frames and on tokens
python scripts/proving/video.py budgets --work runs/video      # every split of two budgets that the grid does not have
python scripts/proving/video.py selectors --work runs/video    # training-free choice of frames, on the needle's questions
python scripts/proving/video.py report --work runs/video       # docs/results/video.json, plots, tables
Two shells may share the stages. --model starts from another bundled model or folder. With runs of your own on real videos:
`mmalign video fit runs.csv` does what `report` does with the grid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(sys.path.pop(0))  # this file has the name of a package: its folder must not come first

import torch
from video_report import write_report
from video_runs import ARMS, FRAMES, MAIN, TOKENS, Recipe, Run, base, films_of, play, start
from video_selectors import compare

BUDGETS = (36, 96)  # visual tokens a film
SWEPT = (8, 9)  # frames and tokens that the other axis is swept at
STAGES = ("noise", "grid", "arms", "budgets", "selectors", "report")


def runs_of(stage: str) -> list[Run]:
    """What a stage trains."""
    t, m = SWEPT
    if stage == "noise":
        return [Run(MAIN, t, m, seed) for seed in range(4)]
    if stage == "grid":
        return [Run(MAIN, t, m) for t in FRAMES for m in TOKENS]
    if stage == "arms":
        swept = [(t, m) for m in (1, 4, 16)] + [(t, m) for t in (1, 4, 16)]
        return [Run(arm, *place) for arm in ARMS if arm != MAIN for place in swept]
    return [Run(MAIN, min(budget // m, FRAMES[-1]), m) for budget in BUDGETS for m in TOKENS if budget // m >= 1]


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("all", *STAGES))
    parser.add_argument("--work", required=True, help="folder for features, models and runs")
    parser.add_argument("--model", default="tiny-lvlm", help="model to start from: bundled or a folder of ours")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a handful of films, to see that all runs")
    parser.add_argument("--out", default="docs/results/video.json")
    parser.add_argument("--images", default="docs/images")
    parser.add_argument("--page", help="Markdown file whose tables between the marks are written anew")
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    work = Path(args.work)
    recipe = Recipe(films=12, base_epochs=1, held_out=6) if args.quick else Recipe()
    stages = STAGES if args.stage == "all" else (args.stage,)
    if set(stages) - {"report"}:
        model, processor = start(args.model)
        train, test = (
            films_of(model, processor, split, n, work / "cache") for split, n in (("train", recipe.films), ("heldout", recipe.held_out))
        )
        begin = str(base(args.model, recipe, train, work))
    for stage in stages:
        if stage == "report":
            write_report(work, Path(args.out), Path(args.images), Path(args.page) if args.page else None, BUDGETS, SWEPT)
        elif stage == "selectors":
            compare(begin, recipe, test, work)
        else:
            for run in runs_of(stage):
                play(run, recipe, train, test, begin, work / "runs")


if __name__ == "__main__":
    main()
