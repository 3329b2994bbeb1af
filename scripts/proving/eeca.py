"""EECA (reconstructed) on SceneWorld landmarks: what each part buys on entities that the vision encoder knows and does not know.

python scripts/proving/eeca.py all --work runs/eeca                        # everything; the same command continues a stopped run
python scripts/proving/eeca.py validate --work runs/eeca                   # equal trials for every variant on the validation world
python scripts/proving/eeca.py final --work runs/eeca --seeds 0 1 2 3 4    # the chosen recipes, once a seed, on the test world
python scripts/proving/eeca.py select --work runs/eeca --select-seeds 0 1 2  # HDS, HSS, LDS, random at equal size
python scripts/proving/eeca.py flops --work runs/eeca                      # the baseline with the others' FLOPs
python scripts/proving/eeca.py long --work runs/eeca                       # with and without the losses, three times the steps
python scripts/proving/eeca.py report --work runs/eeca                     # docs/results/eeca.json and the plots
Two shells may share the runs of a stage: --share 1/2 in one, --share 2/2 in the other.
python scripts/proving/eeca.py models --model HIGH_RES EECA --data facts.jsonl   # own models on own questions, each against the first
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from eeca_models import compare
from eeca_report import read_runs, write_report
from eeca_runs import VARIANTS, Batches, Measured, Recipe, measure, objective_of, train
from eeca_stage import QUICK, Scale, Seen, Stage, write_json

from data_tools.scenes.extract import f1
from vision.knowledge import SELECTIONS, select

TEST_WORLD, VALIDATION_WORLD = 0, 1
FRACTION = 0.25  # of each entity's training pictures, in the comparison of selections
# Steps of the FLOPs-matched baseline. A step is about 6.1 GFLOP without and 8.9 with the high-resolution branch: LLM 5.3; five reads of
# the tower for 32 pictures 3.0 instead of 0.6; adapter 0.65 instead of 0.2. The tower counts at every step although its features are kept.
LONGER = 1.5

# The same two trials for every variant: the adapter's rate, with the LLM's rate at 1e-3 in both. Weight 1 is the top of the method
# page's sweep; smaller ones did less in pilots on the validation world.
TRIALS = (Recipe(lr=5e-3, llm=0.2, steps=220), Recipe(lr=1e-2, llm=0.1, steps=220))
STEPS = 300  # of every variant in the final runs


class Task(NamedTuple):
    """One run: kind "trial", "final" or "select"; name: the variant, or how pictures were selected."""

    kind: str
    name: str
    variant: str
    recipe: Recipe
    seed: int
    trial: int = 0

    @property
    def file(self) -> str:
        return f"{self.kind}-{self.name}-{self.trial}-{self.seed}.json"


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = _arguments()
    args = parser.parse_args(words)
    if args.stage == "models":
        _compare(parser, args)
        return
    if not args.work:
        parser.error("--work names the folder for models, features and runs")
    torch.set_num_threads(args.threads)
    work, scale = Path(args.work), QUICK if args.quick else Scale()
    (work / "runs").mkdir(parents=True, exist_ok=True)
    stages = Stages(work, scale)
    for stage in ("validate", "final", "select", "flops", "long", "report") if args.stage == "all" else (args.stage,):
        _play(stage, stages, args)


def _compare(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.model or not args.data:
        parser.error("own models are compared with --model (one or several) and --data (rows with a question and its answer)")
    print("\n".join(compare(args.model, args.data, kind=args.kind, group=args.group)))


def _play(stage: str, stages: Stages, args: argparse.Namespace) -> None:
    if stage == "report":
        write_report(
            stages.work,
            [stages[w].told() for w in (TEST_WORLD, VALIDATION_WORLD)],
            Path(args.out),
            Path(args.images),
            Path(args.page) if args.page else None,
        )
        return
    tasks = list({"validate": trials, "final": finals, "select": selections, "flops": matched, "long": longer}[stage](stages.work, args))
    mine, of = (int(part) for part in args.share.split("/"))
    for task in tasks[mine - 1 :: of]:
        if not (stages.work / "runs" / task.file).is_file():
            _run(task, stages)


class Stages(dict[int, Stage]):
    """World number -> its stage, made when first asked for."""

    def __init__(self, work: Path, scale: Scale) -> None:
        super().__init__()
        self.work, self.scale = work, scale

    def __missing__(self, world: int) -> Stage:
        self[world] = Stage(self.work / f"world{world}", world, self.scale)
        return self[world]


# -- what is run -------------------------------------------------------------------------------------------------------


def trials(work: Path, args: argparse.Namespace) -> Iterator[Task]:
    """Every variant's candidates, once each on the validation world."""
    for number, recipe in enumerate(TRIALS):
        for name in VARIANTS:
            yield Task("trial", name, name, _scaled(recipe, args), 0, number)


def chosen(work: Path, args: argparse.Namespace) -> dict[str, Recipe]:
    """Of each variant the recipe with the most right facts over all validation pictures. SystemExit where trials are missing."""
    scores: dict[str, list[tuple[float, int]]] = {}
    for run in read_runs(work, "trial"):
        scores.setdefault(run["variant"], []).append((run["metrics"]["facts"]["all"], -run["trial"]))
    lacking = [name for name in VARIANTS if len(scores.get(name, [])) < len(TRIALS)]
    if lacking:
        raise SystemExit(f"the validation trials of {', '.join(lacking)} are not finished; run `eeca.py validate --work {work}` first")
    return {name: _scaled(replace(TRIALS[-max(found)[1]], steps=STEPS), args) for name, found in scores.items()}


def finals(work: Path, args: argparse.Namespace) -> Iterator[Task]:
    """Every variant and every seed."""
    recipes = chosen(work, args)
    for seed in args.seeds:
        for name in VARIANTS:
            yield Task("final", name, name, recipes[name], seed)


def matched(work: Path, args: argparse.Namespace) -> Iterator[Task]:
    """The low-resolution baseline with as many FLOPs as the others have."""
    recipes = chosen(work, args)
    recipe = replace(recipes["baseline"], steps=round(LONGER * recipes["baseline"].steps))
    for seed in args.seeds:
        yield Task("final", "baseline_flops", "baseline", recipe, seed)


def selections(work: Path, args: argparse.Namespace) -> Iterator[Task]:
    """EECA on a quarter of the training pictures, chosen in four ways with equal counts of every entity."""
    recipe = chosen(work, args)["eeca"]
    for seed in args.select_seeds:
        for how in SELECTIONS:
            yield Task("select", how, "eeca", recipe, seed)


def longer(work: Path, args: argparse.Namespace) -> Iterator[Task]:
    """The high-resolution variant without and with both losses, at three times the steps: is the gain one of speed alone?"""
    recipes = chosen(work, args)
    for seed in args.long_seeds:
        for name in ("high_res", "eeca"):
            yield Task("long", name, name, replace(recipes[name], steps=3 * recipes[name].steps), seed)


def _scaled(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    return replace(recipe, steps=4) if args.quick else recipe


# -- one run -----------------------------------------------------------------------------------------------------------


def _run(task: Task, stages: Stages) -> None:
    stage = stages[VALIDATION_WORLD if task.kind == "trial" else TEST_WORLD]
    seen, test, variant = stage.train_pictures(), stage.test_pictures(task.seed), VARIANTS[task.variant]
    started, cpu = time.time(), time.process_time()
    model = stage.model(variant.high, task.seed)
    pick = _picked(task, stage, seen) if task.kind == "select" else None
    batches = Batches(stage.world, seen.pictures, seen.features, variant.high, task.seed, task.recipe.steps, pick)
    objective = objective_of(stage.world, variant, task.recipe, model.config.text_config.hidden_size)
    log = train(model, objective, batches, task.recipe, task.seed)
    found = measure(model, stage.world, test.pictures, test.features, variant.high)
    run = {
        "kind": task.kind, "name": task.name, "variant": task.variant, "seed": task.seed, "trial": task.trial,
        "recipe": asdict(task.recipe),
        "cpu_seconds": round(time.process_time() - cpu, 1), "seconds": round(time.time() - started, 1), "log": log[-1:],
        **_told(found, stage, test),
    }  # fmt: skip
    write_json(stages.work / "runs" / task.file, run)
    print(task.file, {part: round(value, 3) for part, value in run["metrics"]["facts"].items()}, f"{run['seconds']:.0f} s", flush=True)


def _picked(task: Task, stage: Stage, seen: Seen) -> list[int]:
    """Landmark pictures come first, so positions among them are rows of all."""
    shown = [stage.entities[n].name for n in seen.pictures.entities if n >= 0]
    return select(seen.knowledge, [f"{k:06d}" for k in range(len(shown))], shown, task.name, fraction=FRACTION, seed=task.seed)


def _told(found: Measured, stage: Stage, test: Seen) -> dict[str, Any]:
    """Metrics by part of the split, and the answers themselves, for paired intervals."""
    entities = [int(n) for n in test.pictures.entities if n >= 0]
    parts = {"all": [True] * len(entities)} | {part: [s == part for s in test.split] for part in ("known", "uncertain", "unknown")}
    asked = torch.tensor([[fact in stage.world.asked[n] for fact in stage.entities[n].facts] for n in entities]).numpy()
    by_name = found.by_name[entities]  # [n, 4]
    missed = by_name & ~found.facts

    def mean(values: Any) -> float:
        return float(values.mean()) if values.size else float("nan")

    return {
        "metrics": {
            "facts": {part: mean(found.facts[rows]) for part, rows in parts.items()},
            "facts_asked": {part: mean(found.facts[rows][asked[rows]]) for part, rows in parts.items()},
            "facts_never_asked": {part: mean(found.facts[rows][~asked[rows]]) for part, rows in parts.items()},
            "levels": {part: [mean(found.levels[rows][:, level]) for level in range(4)] for part, rows in parts.items()},
            "misaligned": {part: float(missed[rows].sum() / max(1, by_name[rows].sum())) for part, rows in parts.items()},
            "by_name": mean(found.by_name),
            "caption_f1": f1(found.captions),
        },
        "answers": {
            "entity": entities, "split": test.split, "facts": _bits(found.facts), "levels": _bits(found.levels), "asked": _bits(asked),
            "by_name": _bits(by_name), "captions": [list(a) for a in found.captions], "example": found.example,
        },
    }  # fmt: skip


def _bits(table: Any) -> list[str]:
    return ["".join(str(int(value)) for value in row) for row in table]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("validate", "final", "select", "flops", "long", "report", "all", "models"))
    parser.add_argument("--work", help="folder for models, features and runs; the same folder continues")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the final runs")
    parser.add_argument("--select-seeds", type=int, nargs="+", default=[0, 1, 2], help="of the selections")
    parser.add_argument("--long-seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs with three times the steps")
    parser.add_argument("--share", default="1/1", help="k/n: run the k-th of n interleaved parts of a stage")
    parser.add_argument("--threads", type=int, default=1, help="of torch; one is fastest at this size")
    parser.add_argument("--model", nargs="+", help="`models`: folders, hub ids or bundled names; each is compared with the first")
    parser.add_argument("--data", help="`models`: rows with a question and its answer, in any format of the readers")
    parser.add_argument("--kind", default="kind", help="`models`: the field that says known or unknown")
    parser.add_argument("--group", help="`models`: the field of what is drawn together for intervals, such as the entity")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything: whether it runs, not what it shows")
    parser.add_argument("--out", default="docs/results/eeca.json", help="where `report` writes the figures")
    parser.add_argument("--images", default="docs/images", help="where `report` draws")
    parser.add_argument("--page", help="Markdown page (docs/eeca.md) whose tables `report` renews")
    return parser


if __name__ == "__main__":
    main()
