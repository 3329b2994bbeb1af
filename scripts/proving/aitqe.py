"""AITQE's headline: the same small model from the same raw pairs, raw, filtered, recaptioned, or with only the poor captions rewritten.

python scripts/proving/aitqe.py all --work runs/aitqe                          # everything; the same command continues a stopped run
python scripts/proving/aitqe.py run --work runs/aitqe --arms raw aitqe         # some arms; several processes may share the folder
python scripts/proving/aitqe.py report --work runs/aitqe --page docs/aitqe_results.md
Two models that filter are trained first, unless they are given: --similarity (a CLIP or SigLIP) and --mlm (any model that answers
MLM-Filter's questions; of its own, scripts/proving/quality_model.py trains one, and with --judged its models of the ablation take part).
With real data: --pairs RAW --talks INSTRUCTIONS --captions OBJECTS --questions QA --quality HymanH/AITQE --similarity ID --mlm ID
--configs pretrain/llava15 sft/llava15 [--model ID] --volumes 256000 558000 --steps 2000.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from aitqe_arms import Tools, arms_of, tiny_similarity
from aitqe_report import write_report
from aitqe_runs import NO_PAIRS, QUICK, Plan, Sizes, play
from quality_runs import Plan as QualityPlan
from quality_runs import prepare as quality_data
from quality_runs import train as train_quality


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("all", "run", "report"))
    parser.add_argument("--work", required=True, type=Path, help="folder for data, runs and results")
    parser.add_argument("--model", help="the model that is taught (default: that of the first config)")
    parser.add_argument("--configs", nargs=2, metavar=("PAIRS", "TALKS"), help="YAMLs of `mmalign train` for the two stages")
    parser.add_argument("--pairs", help="raw pairs, as `mmalign enhance-data` reads them")
    parser.add_argument("--talks", help="conversations for the second stage")
    parser.add_argument("--captions", help="rows of the benchmark `objects`")
    parser.add_argument("--questions", help="rows of the benchmark `qa`")
    parser.add_argument("--quality", default="tiny-aitqe", help="the quality model")
    parser.add_argument("--similarity", help="a CLIP or SigLIP (default: a tiny one, trained here)")
    parser.add_argument("--mlm", help="the model of the MLM-Filter-style score (default: a tiny one, trained here)")
    parser.add_argument("--judged", help="folder with the models of quality_model.py, for the ablation: runs/quality/runs")
    parser.add_argument("--arms", nargs="+", help="only these")
    parser.add_argument("--volumes", type=int, nargs="+", help="numbers of raw pairs")
    parser.add_argument("--steps", type=int, help="of the first stage")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a handful of pairs and two steps, to see that all runs")
    parser.add_argument("--out", default="docs/results/aitqe.json", type=Path)
    parser.add_argument("--images", default="docs/images", type=Path)
    parser.add_argument("--page", type=Path, help="Markdown file whose tables between the marks are written anew")
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    plan = _plan(args)
    names = args.arms or [*arms_of(plan.tools), NO_PAIRS]
    if unknown := [name for name in names if name not in (*arms_of(plan.tools), NO_PAIRS)]:
        parser.error(f"no arm is called {unknown[0]}: there are {', '.join((*arms_of(plan.tools), NO_PAIRS))}")
    if args.stage != "report":
        play(plan, names, args.seeds)
    if args.stage != "run":
        write_report(plan, names, args.seeds, args.out, args.images, args.page)


def _plan(args: argparse.Namespace) -> Plan:
    sizes = QUICK if args.quick else Sizes()
    sizes = sizes._replace(volumes=tuple(args.volumes or sizes.volumes), steps=args.steps or sizes.steps)
    args.work.mkdir(parents=True, exist_ok=True)
    similarity = args.similarity or tiny_similarity(args.work, *sizes.scorer)
    tools = Tools(args.quality, similarity, args.mlm or _tiny_mlm(args.work, args.quick), args.judged)
    data = {key: getattr(args, key) for key in ("pairs", "talks", "captions", "questions")}
    return Plan(args.work, sizes, tools, args.model, tuple(args.configs) if args.configs else None, **data)


def _tiny_mlm(work: Path, quick: bool) -> str:
    """A model that was taught MLM-Filter's four single scores on judged pairs of split `train`, by quality_model.py's own recipe."""
    if quick:
        return "null:50"  # two steps teach nobody to answer with a number
    plan = QualityPlan(work / "quality")
    if not (plan.model("mlm", 0) / "config.json").is_file():
        quality_data(plan)
        train_quality(plan, "mlm", 0)
    return str(plan.model("mlm", 0))


if __name__ == "__main__":
    main()
