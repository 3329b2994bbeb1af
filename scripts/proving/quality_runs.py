"""Quality models of the same judged pairs: with and without contrasting captions and rewriting, and one of single scores."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from zoo.scene_judge import SceneJudge, rows_of

from data_tools.aitqe.parser import parse, render
from data_tools.filters.mlm_filter import CRITERIA, ask
from data_tools.io import list_shards, read
from data_tools.io.jsonl import dump
from data_tools.records import Message, Part, Sample
from mm_align import config as configs
from mm_align.jobs import scenes
from mm_align.jobs.aitqe import data as aitqe_data
from mm_align.jobs.aitqe.data import AitqeDataConfig

ROOT = Path(__file__).resolve().parents[2]
# MLM-Filter's metric -> the aspect of the judge's answer that teaches it.
TAUGHT = dict(
    zip(CRITERIA, ("image_text_matching", "object_detail", "text_quality", "semantic_understanding"), strict=True),
)


SUBTLE = frozenset({"wrong_object", "wrong_color", "wrong_count", "wrong_relation"})


class Variant(NamedTuple):
    """What the rows hold: contrasting captions (kinds B and D), the recaption in the answer; single: MLM-Filter's questions instead.

    gross: of raw captions that are wrong about an object or its place none, and as many good ones as bad ones: subtle errors then stand
    in contrasting captions alone.
    """

    contrast: bool
    rewriting: bool
    single: bool = False
    gross: bool = False


FOUR = {"both": (True, True), "contrast": (True, False), "rewriting": (False, True), "neither": (False, False)}
VARIANTS = {name: Variant(*parts) for name, parts in FOUR.items()}
VARIANTS |= {"mlm": Variant(True, False, single=True)}
VARIANTS |= {f"gross_{name}": Variant(*parts, gross=True) for name, parts in FOUR.items()}


class Plan(NamedTuple):
    """Where the proof works and at which size. config: of `mmalign train`, for every variant."""

    work: Path
    config: str = "aitqe/tiny"
    train: int = 4000
    heldout: int = 1000
    steps: int | None = None  # None: the config's

    @property
    def quality(self) -> Path:
        return self.work / "quality"

    def model(self, variant: str, seed: int) -> Path:
        return self.work / "runs" / f"{variant}-{seed}" / "model"


def prepare(plan: Plan) -> None:
    """Scenes, the judge's rows, the start model; each made once."""
    for split, n in (("train", plan.train), ("heldout", plan.heldout)):
        scenes.run(scenes.ScenesConfig(out=str(plan.work / split), n=n, split=split))
    for split, out in (("train", plan.quality), ("heldout", plan.work / "heldout_judged")):
        told = {"source": str(plan.work / split), "judge": "scenes", "out": str(out)}
        aitqe_data.build(configs.load(AitqeDataConfig, told), backends={"scenes": SceneJudge(rows_of(str(plan.work / split)))})
    start = plan.work / "start"
    if not (start / "tokenizer.json").is_file():
        subprocess.run([sys.executable, str(ROOT / "scripts/zoo/quality_start.py"), "--out", str(start)], check=True)


def rows(plan: Plan, variant: str) -> Path:
    """The variant's training rows: the judged ones, fewer or with another answer."""
    path = plan.quality / f"{variant}.jsonl"
    if not path.is_file():
        told = VARIANTS[variant]
        judged = [row for row in read(list_shards(str(plan.quality / "aitqe.jsonl"))[0]) if isinstance(row, Sample)]
        made = (changed for row in (_gross(judged) if told.gross else judged) for changed in _changed(row, told))
        path.write_bytes(b"".join(dump(_there(row, plan.quality)) for row in made))
    return path


def _gross(judged: Sequence[Sample]) -> list[Sample]:
    """The rows without pictures whose raw caption is subtly wrong; of those with a good one the first, as many as bad ones."""
    kept = [row for row in judged if row.meta["meta"]["sceneworld"]["kind"] not in SUBTLE]
    good, bad = ([row for row in kept if row.meta["meta"]["aitqe"]["kind"] in kinds] for kinds in ("AB", "CD"))
    return [*good[: len(bad)], *bad[: len(good)]]


def _changed(row: Sample, variant: Variant) -> Iterator[Sample]:
    kind = row.meta["meta"]["aitqe"]["kind"]
    if kind in "BD" and not variant.contrast:
        return
    reply = parse(row.messages[-1].parts[-1].text)
    if variant.single:
        yield from _single(row, reply.scores)
    elif reply.recaption is not None and not variant.rewriting:
        yield _answering(row, row.messages[0], render(replace(reply, recaption=None)))
    else:
        yield row


def _single(row: Sample, scores: Any) -> Iterator[Sample]:
    """One row a metric; the judge's 1 to 10 becomes 7 to 97, as MLM-Filter's labels avoid round numbers."""
    for metric, aspect in TAUGHT.items():
        question = ask(row, metric).messages[0]
        yield replace(_answering(row, question, str(round(10 * scores[aspect]) - 3)), id=f"{row.id}:{metric}")


def _answering(row: Sample, question: Message, answer: str) -> Sample:
    return replace(row, messages=(question, Message("assistant", (Part("text", answer),), trains=True)))


def _there(row: Sample, folder: Path) -> dict[str, Any]:
    """The row as a line of a file in `folder`."""
    path = Path(row.images[0].path or "")
    return replace(row, images=(replace(row.images[0], path=str(path.resolve())),), source=None, meta=row.meta["meta"]).to_dict()


def train(plan: Plan, variant: str, seed: int) -> None:
    """`mmalign train` on the variant's rows; a finished run is left alone, a stopped one continues."""
    out = plan.model(variant, seed).parent
    if not (out / "took.json").is_file():
        command = [sys.executable, "-m", "mm_align", "train", plan.config, "--out", str(out), "--seed", str(seed), "--save-steps", "120"]
        command += ["--set", f"model.from={plan.work / 'start'}", "--set", f"data=[{{path: {rows(plan, variant)}}}]"]
        command += ["--steps", str(plan.steps)] if plan.steps else []
        started = time.monotonic()
        subprocess.run(command, check=True)
        (out / "took.json").write_text(json.dumps({"seconds": round(time.monotonic() - started, 1)}))


def measured(plan: Plan, name: str, figures: Callable[[], Any]) -> Any:
    """What `figures` tells, kept in a file and not worked out twice."""
    path = plan.work / "measures" / f"{name}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures(), indent=1) + "\n")
    return json.loads(path.read_text())
