"""The runs of the AITQE proof: the same start model taught by the pairs of each arm, then by the same instructions, then measured."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aitqe_arms import ABLATION, POOL_SEED, SCENES, Prepared, Tools, arms_of, draw, prepare, rows_of, shift, told_once

from data_tools.disk.lock import take_lock
from data_tools.io.jsonl import dump
from mm_align import config as configs
from mm_align.backends import load_backend
from mm_align.evals import build_benchmark
from mm_align.jobs import scenes
from mm_align.jobs.train import train
from mm_align.jobs.train.config import TrainConfig

BRIEF = "Describe the image briefly."
# Tower and language model of tiny-lvlm around a new adapter: what the pairs must teach is which words a picture's tokens mean.
ONE: Mapping[str, Any] = {
    "model": {"from": "tiny-lvlm", "adapter": {"type": "mlp"}},
    "train": ["adapter", "language_model"],
    "lr": 1e-3,
    "lrs": {"adapter": 5e-3},
    "schedule": {"type": "cosine", "warmup": 0.1},
    "batch_size": 16,
    "micro_batch": 16,
    "max_length": 400,
}
TWO: Mapping[str, Any] = {"lr": 5e-4, "batch_size": 8, "micro_batch": 8, "steps": 15, "max_length": 600}
NO_PAIRS = "none"


class Sizes(NamedTuple):
    """volumes: raw pairs. steps: of the pairs' stage, for every arm and volume. scorer: pairs and steps of the similarity filter."""

    volumes: tuple[int, ...] = (144, 384, 1152)
    steps: int = 72
    talks: int = 400
    heldout: int = 200
    asked: int = 60
    scorer: tuple[int, int] = (4000, 200)


QUICK = Sizes((16, 32), 2, 8, 6, 3, (64, 3))


class Plan(NamedTuple):
    """Where the proof works, on what and with what. pairs, talks, captions, questions: a user's own in place of SceneWorld."""

    work: Path
    sizes: Sizes
    tools: Tools
    model: str | None = None
    configs: tuple[str, str] | None = None
    pairs: str | None = None
    talks: str | None = None
    captions: str | None = None
    questions: str | None = None

    def pool(self, seed: int) -> str:
        """The raw pairs of a seed: drawn for it, or the user's, which all seeds share."""
        return self.pairs or draw(self.work / f"pool-{seed}", max(self.sizes.volumes), "validation", POOL_SEED + seed)

    def result(self, arm: str, volume: int, seed: int) -> Path:
        return self.work / "results" / f"{arm}-{volume}-{seed}.json"


def play(plan: Plan, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Every run that is not there yet, from the middle volume on; another process's are left to it."""
    volumes = sorted(plan.sizes.volumes)
    volumes.insert(0, volumes.pop(len(volumes) // 2))
    once = ABLATION | {NO_PAIRS}  # read at one volume
    runs = [(name, volume, seed) for volume in volumes for seed in seeds for name in names if name not in once]
    runs += [(name, volumes[0], seed) for seed in seeds for name in names if name in once]
    for name, volume, seed in runs:
        with _mine(plan.result(name, volume, seed)) as mine:
            if mine:
                _run(plan, name, volume, seed)


def _run(plan: Plan, name: str, volume: int, seed: int) -> None:
    before = _cpu()
    pool = plan.pool(seed)
    raw = [row.id for row in rows_of(pool, volume)]
    rows = prepare(plan.work, pool, name, plan.tools, seed) if name != NO_PAIRS else Prepared(pool, [])
    made = plan.work / "runs" / f"{name}-{volume}-{seed}"
    start = _start(plan)
    told: dict[str, Any] = {"arm": name, "volume": volume, "seed": seed, "rows": rows.within(raw)}
    if name != NO_PAIRS and not told["rows"]:
        raise SystemExit(f"{name}, seed {seed}: none of {volume} pairs is left, so there is nothing to train on")
    prepared = _cpu()
    if name != NO_PAIRS:
        told["trained"] = _train(made / "one", start | {"data": [_pairs(rows.path, told["rows"])], "steps": plan.sizes.steps}, seed)
        told["captions"] = _measured(made / "one/model", captions(plan))
        start = {"model": {"from": str(made / "one/model")}}
    two = (configs.read_yaml(configs.find_config(plan.configs[1])) if plan.configs else dict(TWO)) | start
    _train(made / "two", two | {"data": [{"path": talks(plan)}]}, seed)
    told["questions"] = _measured(made / "two/model", questions(plan))
    told["cpu"] = {"data": round(prepared - before, 1), "training": round(_cpu() - prepared, 1)}
    result = plan.result(name, volume, seed)
    result.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(made)  # models of a finished run: some 20 MB each


def _start(plan: Plan) -> dict[str, Any]:
    one = dict(configs.read_yaml(configs.find_config(plan.configs[0]))) if plan.configs else dict(ONE)
    return one | ({"model": {**one.get("model", {}), "from": plan.model}} if plan.model else {})


def _pairs(path: str, rows: int) -> dict[str, Any]:
    return {"path": path, "limit": rows, "prompt": BRIEF}


def _train(out: Path, told: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """`mmalign train`, continued where it was stopped."""
    given = {"out": str(out), "seed": seed, "save_steps": 40}
    report = train.run(configs.load(TrainConfig, dict(told), given))
    if report.exit_code:
        raise SystemExit(f"{out}: the training failed, see above")
    last = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"loss": next((line["loss"] for line in reversed(last) if "loss" in line), None)}


def _measured(model: Path, suite: Mapping[str, Any]) -> dict[str, float]:
    """Greedy answers, scored as `mmalign eval` scores them."""
    bench = build_benchmark(suite)
    answers = load_backend(str(model)).generate(bench.samples(), bench.sampling)
    return bench.score({answer.sample_id: answer for answer in answers})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _mine(result: Path) -> Iterator[bool]:
    """Whether this process is to make the result: it is not there, and no other process is at it."""
    result.parent.mkdir(parents=True, exist_ok=True)
    with result.with_suffix(".lock").open("w") as file:
        yield take_lock(file) and not result.is_file()


# -- data and benchmarks -----------------------------------------------------------------------------------------------


def talks(plan: Plan) -> str:
    """Instructions, true ones, the same for every arm."""
    split, seed, options = SCENES["talks"]
    return plan.talks or draw(plan.work / "talks", plan.sizes.talks, split, seed, **options)


def captions(plan: Plan) -> dict[str, Any]:
    """The benchmark of captions: SceneWorld's suite of held-out scenes, or rows as the benchmark `objects` reads them."""
    if plan.captions:
        return {"type": "objects", "data": plan.captions, "prompt": BRIEF}
    folder = plan.work / "suite"
    scenes.run(scenes.ScenesConfig(out=str(folder), suite=True, n=plan.sizes.heldout, split="heldout"))
    more = {"vocabulary": str(folder / "vocabulary.json"), "counted": True, "max_tokens": 80}
    return {"type": "objects", "data": str(folder / "pictures.jsonl"), "prompt": BRIEF, **more}


def questions(plan: Plan) -> dict[str, Any]:
    """The benchmark of questions: those of held-out scenes, or rows as the benchmark `qa` reads them."""
    if plan.questions:
        return {"type": "qa", "data": plan.questions}
    folder = Path(draw(plan.work / "asked", plan.sizes.asked, "heldout", 7003, poor_share=0.0))
    path = folder / "questions.jsonl"
    if not path.is_file():
        rows = [(row, k, q) for row in rows_of(folder) for k, q in enumerate(row.meta["sceneworld"]["questions"])]
        path.write_bytes(b"".join(dump(_asked(row.id, row.meta["image"], k, q)) for row, k, q in rows))
    return {"type": "qa", "data": str(path), "group": "picture"}


def _asked(picture: str, image: str, number: int, question: Mapping[str, str]) -> dict[str, Any]:
    about = {"id": f"{picture}-{number}", "picture": picture, "image": image}
    return about | {"question": question["question"], "answer": question["answer"], "kind": question["kind"]}


def shifts(plan: Plan, names: Sequence[str], seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """How the texts of each arm differ from the raw ones, seed by seed, over the whole pool."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in (n for n in names if n in arms_of(plan.tools)):
        for seed in seeds:
            pool = plan.pool(seed)

            def figures(pool: str = pool, name: str = name, seed: int = seed) -> dict[str, Any]:
                return shift(rows_of(pool), rows_of(prepare(plan.work, pool, name, plan.tools, seed).path))

            if plan.result(name, max(plan.sizes.volumes), seed).is_file() or (plan.work / "arms" / f"{name}-{seed}").is_dir():
                found.setdefault(name, []).append(told_once(plan.work / "shifts" / f"{name}-{seed}.json", figures))
    return found
