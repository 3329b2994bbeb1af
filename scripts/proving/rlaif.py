"""RLAIF-V's claims: rounds against one big round, pairs of one model against two, claims against whole answers, best of N.

python scripts/proving/rlaif.py all --work runs/rlaif --seeds 0 1 2          # everything; the same command continues a stopped run
python scripts/proving/rlaif.py rounds --work runs/rlaif --seeds 0           # four rounds
python scripts/proving/rlaif.py big --work runs/rlaif                        # one round over the pictures of all four
python scripts/proving/rlaif.py self --work runs/rlaif                       # two rounds in which the model judges its own answers
python scripts/proving/rlaif.py pairs --work runs/rlaif                      # one round: pairs of one model, of two, whole judging
python scripts/proving/rlaif.py judging --work runs/rlaif                    # labels against the truth
python scripts/proving/rlaif.py best-of --work runs/rlaif                    # best of N by the implicit reward of the rounds' models
python scripts/proving/rlaif.py report --work runs/rlaif                     # docs/results/rlaif.json, plots, tables
With real data: --model ID --judge ID --other ID --config rlaif/llava15 --data TRAIN VALIDATION TEST, rows
with a picture and what is on it, as the benchmark `objects` reads them. Two shells may share the seeds.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from rlaif_measures import best_of, judging
from rlaif_report import write_report
from rlaif_runs import Plan, draw_scenes, play

VARIANTS = {
    "rounds": ("rounds",),
    "big": ("big",),
    "self": ("self",),
    "pairs": ("one_model", "two_models", "whole"),
}
STAGES = (*VARIANTS, "judging", "best-of", "report")


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("all", *STAGES))
    parser.add_argument("--work", required=True, help="folder for data, runs and answers")
    parser.add_argument("--config", default="rlaif/tiny", help="YAML of `mmalign rlaif rounds`, or the name of a packaged one")
    parser.add_argument("--model", help="model to start from (default: the config's)")
    parser.add_argument("--judge", help="model that judges (default: the config's)")
    parser.add_argument("--other", default="tiny-judge", help="second model whose answers confound the pairs")
    parser.add_argument("--data", nargs=3, metavar=("TRAIN", "VALIDATION", "TEST"), help="rows of the benchmark `objects`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a handful of pictures and one step of training, to see that all runs")
    parser.add_argument("--out", default="docs/results/rlaif.json")
    parser.add_argument("--images", default="docs/images")
    parser.add_argument("--page", help="Markdown file whose tables between the marks are written anew")
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("mm_align").setLevel(logging.INFO)
    data = tuple(args.data) if args.data else draw_scenes(Path(args.work), args.quick)
    plan = Plan(Path(args.work), args.config, data, args.model, args.judge, args.other, args.quick)
    for stage in STAGES if args.stage == "all" else (args.stage,):
        for seed in args.seeds:
            _play(stage, plan, seed)
        if stage == "report":
            write_report(plan, args.seeds, Path(args.out), Path(args.images), Path(args.page) if args.page else None)


def _play(stage: str, plan: Plan, seed: int) -> None:
    for variant in VARIANTS.get(stage, ()):
        play(plan, variant, seed)
    if stage == "judging":
        judging(plan, seed)
    if stage == "best-of":
        best_of(plan, seed)


if __name__ == "__main__":
    main()
