"""Quality models of one's own: what a model is worth, what contrasting captions and rewriting each do, what single scores and CLIP do.

python scripts/proving/quality_model.py measure --model run/model --data held      # one model; rows of `scenes make` or of `aitqe data`
python scripts/proving/quality_model.py all --work runs/quality --seeds 0 1 2      # everything below; the same command continues
python scripts/proving/quality_model.py train --work runs/quality --only both      # {contrast, rewriting} 2 x 2 and single scores
python scripts/proving/quality_model.py all --work runs/quality --clip FOLDER      # with the CLIP score of another encoder
python scripts/proving/quality_model.py report --work runs/quality                 # docs/results/quality.json, plot, tables
With real pairs: `mmalign aitqe data` twice (to train on, to measure on), `mmalign train aitqe/qwen2_7b`, then `measure`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import PIL.Image
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from aitqe_scorer import train_scorer
from quality_measures import Case, cases, measure, measure_scorer, measure_single
from quality_report import write_report
from quality_runs import VARIANTS, Plan, measured, prepare, train

from data_tools.io import decode
from data_tools.records import Sample
from mm_align.backends import load_backend
from vision.similarity import load_similarity

STAGES = ("train", "report")
CLIP_STEPS = 600


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("measure", "all", *STAGES))
    parser.add_argument("--model", default="tiny-aitqe", help="of measure: any model that `mmalign enhance-data` takes")
    parser.add_argument("--data", help="of measure: rows with truth")
    parser.add_argument("--limit", type=int, help="of measure: only the first rows")
    parser.add_argument("--work", help="folder for data, runs and measures")
    parser.add_argument("--config", default="aitqe/tiny", help="YAML of `mmalign train`, or the name of a packaged one")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of train: these variants")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clip", help="image-text encoder whose score is measured (default: a small one trained on the raw pairs)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a handful of rows and two steps of training, to see that all runs")
    parser.add_argument("--out", default="docs/results/quality.json")
    parser.add_argument("--images", default="docs/images")
    parser.add_argument("--page", help="Markdown file whose tables between the marks are written anew")
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    if args.stage == "measure":
        if not args.data:
            parser.error("measure needs --data, rows with truth")
        print(json.dumps(measure(load_backend(args.model), cases(args.data, args.limit)), indent=1))
        return
    if not args.work:
        parser.error(f"{args.stage} needs --work, a folder")
    plan = Plan(Path(args.work), args.config, *((24, 24, 2) if args.quick else ()))
    for stage in STAGES if args.stage == "all" else (args.stage,):
        if stage == "report":
            write_report(plan, args.seeds, Path(args.out), Path(args.images), Path(args.page) if args.page else None)
        else:
            play(plan, args.only, args.seeds, args.clip)


def play(plan: Plan, variants: Sequence[str], seeds: Sequence[int], clip: str | None = None) -> None:
    """Every variant, trained and measured on held-out rows, seed by seed."""
    prepare(plan)
    rows, judged = cases(str(plan.work / "heldout")), cases(str(plan.work / "heldout_judged" / "aitqe.jsonl"), plan.heldout)
    measured(plan, "tiny-aitqe", lambda: figures("tiny-aitqe", rows, judged))
    measured(plan, "clip", lambda: measure_scorer(scorer(clip or encoder(plan)), rows))
    for seed in seeds:
        for variant in variants:
            train(plan, variant, seed)
            look = partial(figures, str(plan.model(variant, seed)), rows, judged, single=VARIANTS[variant].single)
            measured(plan, f"{variant}-{seed}", look)


def figures(model: str, rows: Sequence[Case], judged: Sequence[Case], single: bool = False) -> dict:
    """On rows of the world, and on rows as `mmalign aitqe data` makes them of held-out pictures."""
    backend = load_backend(model)
    if single:
        return measure_single(backend, rows)
    return {**measure(backend, rows), "judged": measure(backend, judged)}


def encoder(plan: Plan) -> str:
    """The AITQE proof's small encoder, trained once on the raw pairs."""
    folder = plan.work / "clip"
    if not (folder / "config.json").is_file():
        train_scorer(str(plan.work / "train"), folder, plan.steps or CLIP_STEPS)
    return str(folder)


def scorer(name: str) -> Callable[[Sequence[Sample]], list[float]]:
    """The similarity of a sample's first picture and its caption."""
    similarity = load_similarity(name)
    return lambda samples: similarity([pixels(sample) for sample in samples], [sample.caption or "" for sample in samples])


def pixels(sample: Sample) -> PIL.Image.Image:
    found = decode(sample.images[0]).pixels
    assert found is not None
    return found


if __name__ == "__main__":
    main()
