"""The arms of the AITQE proof: what becomes of the same raw pairs, each made by `mmalign enhance-data`, and how its texts differ."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from aitqe_scorer import train_scorer

from data_tools.disk.lock import take_lock
from data_tools.io import list_shards, read
from data_tools.io.jsonl import dump
from data_tools.records import Sample, Verdict
from data_tools.report import Stats
from data_tools.report.summary import summarise
from data_tools.scenes.extract import agreement, f1
from data_tools.scenes.world import Scene
from mm_align.jobs import scenes
from mm_align.jobs.enhance.enhance import enhance

ITM = "mlm.image_text_matching"
SCENES = {  # name -> split, seed, options. Splits share no scene: the bundled models were trained on split `train` alone
    "scorer": ("train", 7001, {}),
    "talks": ("validation", 7002, {"questions": True, "poor_share": 0.0}),
}
CALIBRATION = 600  # pairs on which the cut of the MLM-Filter-style score is found
POOL_SEED = 7100  # + seed: the raw pairs of split `validation`


class Tools(NamedTuple):
    """The models that filter and rewrite."""

    quality: str
    similarity: str
    mlm: str
    judged: str | None  # folder of models {both,contrast,rewriting,neither}-0/model, of scripts/proving/quality_model.py


class Arm(NamedTuple):
    """options: of `enhance`; None where the pairs are as they are. like: the arm whose number of rows is drawn at random."""

    title: str
    options: Mapping[str, Any] | None = None
    like: str | None = None


def arms_of(tools: Tools, dropped: int = 50, least: int = 50) -> dict[str, Arm]:
    """In the order in which they run. dropped: percent of rows that the similarity filter drops; least: lowest score of MLM-Filter's."""
    ask = {"model": tools.quality, "mode": "scores"}
    far = f"similarity.cosine is unknown or similarity.cosine in bottom {dropped}%"
    arms = {
        "raw": Arm("raw pairs"),
        "aitqe": Arm("AITQE: poor captions rewritten", {**ask, "policy": "model"}),
        "quality": Arm("filtered by quality score", {**ask, "policy": "threshold", "poor": "drop"}),
        "recaption": Arm("all recaptioned", {**ask, "policy": "always"}),
        "clip": Arm(
            "filtered by CLIP-style score",
            {"stages": ["similarity"], "similarity_model": tools.similarity, "drop_if": [far]},
        ),
        "mlm": Arm(
            "filtered by MLM-Filter-style score",
            {"stages": ["mlm"], "mlm_model": tools.mlm, "signals": [ITM], "drop_if": [f"{ITM} is unknown or {ITM} < {least}"]},
        ),
        "random": Arm("random subset", like="quality"),
    }
    return arms | (_ablation(tools.judged) if tools.judged else {})


def _ablation(judged: str) -> dict[str, Arm]:
    """Models that rewrite enhance; one that was taught scores alone can only drop."""
    asked = {name: {"model": f"{judged}/{name}-0/model", "mode": "scores"} for name in ("both", "rewriting", "contrast", "neither")}
    drops = {"policy": "threshold", "poor": "drop"}
    return {
        "both": Arm("contrast and rewriting: rewrites", asked["both"]),
        "rewriting": Arm("rewriting alone: rewrites", asked["rewriting"]),
        "both_drops": Arm("contrast and rewriting: drops", asked["both"] | drops),
        "contrast": Arm("contrast alone: drops", asked["contrast"] | drops),
        "neither": Arm("neither: drops", asked["neither"] | drops),
    }


ABLATION = frozenset(("both", "rewriting", "both_drops", "contrast", "neither"))


# -- data --------------------------------------------------------------------------------------------------------------


def draw(folder: Path, n: int, split: str, seed: int, **options: Any) -> str:
    """SceneWorld rows, made once."""
    with locked(folder):
        scenes.run(scenes.ScenesConfig(out=str(folder), n=n, split=split, seed=seed, **options))
    return str(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among the processes that share the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        take_lock(file, wait=True)
        yield


def scorer_pairs(work: Path, n: int) -> str:
    """Raw pairs of another split and seed: what the similarity filter learns from."""
    split, seed, options = SCENES["scorer"]
    return draw(work / "scorer_pairs", n, split, seed, **options)


def tiny_similarity(work: Path, n: int, steps: int) -> str:
    """The folder of the tiny encoder, trained once."""
    out = work / "similarity"
    pairs = scorer_pairs(work, n)
    with locked(out):
        if not (out / "processor_config.json").is_file():
            train_scorer(pairs, out, steps)
    return str(out)


def rows_of(path: str | Path, limit: int | None = None) -> list[Sample]:
    """Readable rows, in their order."""
    return list(islice((row for shard in list_shards(str(path)) for row in read(shard) if isinstance(row, Sample)), limit))


class Prepared(NamedTuple):
    """path: what `mmalign train` reads. ids: of its rows, in order."""

    path: str
    ids: list[str]

    def within(self, raw: Sequence[str]) -> int:
        """How many of its rows come from these raw ones, which must be the first."""
        known = set(raw)
        return sum(row in known for row in self.ids)


def prepare(work: Path, pool: str, name: str, tools: Tools, seed: int) -> Prepared:
    """One arm's rows of a pool of raw pairs, made or continued."""
    arm = arms_of(tools)[name]
    folder = work / "arms" / f"{name}-{seed}"
    with locked(folder):
        if arm.like is not None:
            _random(folder, pool, prepare(work, pool, arm.like, tools, seed).ids, seed)
        elif name in ("clip", "mlm"):
            count, kept = len(rows_of(pool)), len(prepare(work, pool, "quality", tools, seed).ids)
            least = _least(work, pool, tools, seed, kept / count) if name == "mlm" else 0
            _enhance(pool, folder, arms_of(tools, round(100 * (1 - kept / count)), least)[name])
        elif arm.options is not None:
            _enhance(pool, folder, arm)
    path = str(folder) if arm.like or arm.options else pool
    return Prepared(path, [row.id for row in rows_of(path)])


def _enhance(pool: str, folder: Path, arm: Arm) -> None:
    report = enhance(pool, folder, **(arm.options or {}))
    if report.exit_code:
        raise SystemExit(f"{folder}: the run failed, see above")


def _least(work: Path, pool: str, tools: Tools, seed: int, share: float) -> int:
    """The whole number whose share of scores at or above it is nearest to `share`, on the first pairs of the pool."""
    out = work / "arms" / f"mlm-calibration-{seed}"
    enhance(pool, out, stages=["mlm"], mlm_model=tools.mlm, signals=[ITM], limit=CALIBRATION)
    told = [row.meta["filters"]["signals"].get(ITM) for row in rows_of(out)]
    scores = [-1 if value is None else int(value) for value in told]
    return min(range(max(0, *scores) + 1), key=lambda cut: abs(sum(value >= cut for value in scores) / len(scores) - share))


def _random(folder: Path, pool: str, like: Sequence[str], seed: int) -> None:
    """As many rows of the pool as `like` has, drawn evenly from every stretch of it, so that each first part has its share."""
    path = folder / "rows.jsonl"
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(pool)
    chosen = set(random.Random(f"aitqe-random-{seed}").sample(range(len(rows)), len(like)))
    lines = [dump(_there(row, Path(pool))) for k, row in enumerate(rows) if k in chosen]
    path.write_bytes(b"".join(lines))


def _there(row: Sample, pool: Path) -> dict[str, Any]:
    """The row as a line of a file in another folder."""
    meta = dict(row.meta)
    key = row.source.image_keys[0] if row.source else "image"
    return meta | {"id": row.id, key: str((pool / str(meta[key])).resolve())}


# -- what an arm's texts are -------------------------------------------------------------------------------------------


def shift(raw: Sequence[Sample], ours: Sequence[Sample]) -> dict[str, Any]:
    """How the texts of an arm differ from the raw ones, by the report's own measures."""
    stats, kept = Stats(), {row.id: row.caption or "" for row in ours}
    for row in raw:
        before, after = row.caption or "", kept.get(row.id)
        action = "drop" if after is None else "keep" if after == before else "rewrite"
        stats.add(row, Verdict(action, text=after if action == "rewrite" else None), after or "")
    told = summarise(stats)
    text = told["text"]
    return {
        "rows": told["counts"]["output"],
        "rewritten": told["counts"]["rewritten"] / max(1, told["counts"]["output"]),
        "js_divergence": text["js_divergence_raw_output"],
        "words": text["output"]["words"]["mean"],
        "distinct_1": text["output"]["distinct_1"],
        "distinct_2": text["output"]["distinct_2"],
        "edit_distance": text["edit_distance_rewritten"]["mean"],
    } | _truth(raw, ours)


def _truth(raw: Sequence[Sample], ours: Sequence[Sample]) -> dict[str, float]:
    """Where the scene is known: of the captions, the share that is damaged and as it was, the F1 of objects with all that is said of
    them, and the share that invents one."""
    known = {row.id: (row.caption, row.meta["sceneworld"]) for row in raw if "sceneworld" in row.meta}
    pairs = [(row.caption or "", *known[row.id]) for row in ours if row.id in known]
    if not pairs:
        return {}
    found = [agreement(text, Scene.from_dict(truth["scene"])) for text, _, truth in pairs]
    damaged = sum(truth["kind"] != "good" and text == (before or "") for text, before, truth in pairs)
    return {"damaged": damaged / len(pairs), "f1": f1(found), "hallucinating": sum(a.invented > 0 for a in found) / len(found)}


def told_once(path: Path, figures: Any) -> Any:
    """What `figures()` tells, kept in a file and not worked out twice."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures(), indent=1) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
