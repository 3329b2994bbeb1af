"""The runs of the RLAIF-V proof: each variant is `mmalign rlaif rounds` with other settings, or with other pairs."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from mm_align import config as configs
from mm_align.jobs import scenes
from mm_align.jobs.feedback.feedback import FeedbackConfig, FeedbackReport, feedback
from mm_align.jobs.rounds.rounds import Parts, RoundsConfig, own_parts, rounds

SCENES = {"train": (800, 11), "validation": (100, 0), "heldout": (300, 0)}  # split -> rows, seed
SCENES_QUICK = {"train": (8, 11), "validation": (4, 0), "heldout": (6, 0)}
QUICK: Mapping[str, Any] = {
    "rounds": 2,
    "images_per_round": 4,
    "checks": 1,
    "drift_rows": 2,
    "feedback": {"candidates": {"n": 4, "max_tokens": 60}},
    "train": {"epochs": 1},
}
JUDGED_WHOLE: Mapping[str, Any] = {"claims": {"splitter": "whole"}, "asking": {"writer": "whole"}}


class Plan(NamedTuple):
    """Where the proof works, and on what. data: rows to train on, to choose checkpoints by, and to report."""

    work: Path
    config: str
    data: tuple[str, str, str]
    model: str | None
    judge: str | None
    other: str
    quick: bool

    def folder(self, variant: str, seed: int) -> Path:
        return self.work / f"{variant}-{seed}"

    def rounds_config(self, variant: str, seed: int) -> RoundsConfig:
        """The packaged config on this plan's data, changed as the variant says."""
        layers = [configs.read_yaml(configs.find_config(self.config.removeprefix("rlaif/"), "rlaif"))]
        layers += [dict(QUICK)] if self.quick else []
        given = {key: value for key, value in {"model": self.model, "judge": self.judge}.items() if value is not None}
        suite = layers[0]["eval"][0]
        told = {"data": self.data[0], "out": str(self.folder(variant, seed)), "seed": seed}
        told |= {"eval": [_on(suite, self.data[1])], "test": [_on(suite, self.data[2])], "keep_checkpoints": False}
        base = configs.load(RoundsConfig, *layers, given, told)
        return configs.load(RoundsConfig, *layers, given, told, _changes(variant, base))


def _on(suite: Mapping[str, Any], data: str) -> dict[str, Any]:
    vocabulary = Path(data) / "vocabulary.json"
    return {**suite, "data": data, "vocabulary": str(vocabulary) if vocabulary.is_file() else None}


def _changes(variant: str, base: RoundsConfig) -> dict[str, Any]:
    each = base.images_per_round
    if variant == "big":
        return {"rounds": 1, "images_per_round": None if each is None else base.rounds * each}
    if variant == "self":
        return {"judge": "self", "rounds": min(2, base.rounds)}
    if variant == "whole":
        return {"rounds": 1, "feedback": dict(JUDGED_WHOLE)}
    return {} if variant == "rounds" else {"rounds": 1}


def draw_scenes(work: Path, quick: bool) -> tuple[str, str, str]:
    """SceneWorld's folders of training, validation and held-out rows, made once."""
    for split, (n, seed) in (SCENES_QUICK if quick else SCENES).items():
        scenes.run(scenes.ScenesConfig(out=str(work / "scenes" / split), n=n, seed=seed, split=split, poor_share=0))
    train, validation, test = (str(work / "scenes" / split) for split in SCENES)
    return train, validation, test


def play(plan: Plan, variant: str, seed: int) -> None:
    """Run, or continue, a variant; its CPU seconds are added up in `cpu.json` over the starts."""
    config = plan.rounds_config(variant, seed)
    parts = own_parts(config)
    if variant in ("one_model", "two_models"):
        parts = parts._replace(feedback=_compared(plan, variant, seed))
    before = _cpu()
    report = rounds(config, parts)
    if report.exit_code:
        raise SystemExit(f"{variant}, seed {seed}: the run failed, see above")
    path = plan.folder(variant, seed) / "cpu.json"
    spent = json.loads(path.read_text()) if path.is_file() else 0.0
    path.write_text(json.dumps(round(spent + _cpu() - before, 1)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def final_model(plan: Plan, variant: str, seed: int) -> str:
    """The model that a variant ended with."""
    told = json.loads((plan.folder(variant, seed) / "rounds.json").read_text(encoding="utf-8"))
    return str(told["rounds"][-1]["model"])


# -- pairs of one model's answers and of two models' ------------------------------------------------------------------------


def _compared(plan: Plan, variant: str, seed: int) -> Callable[[FeedbackConfig], FeedbackReport]:
    """Feedback whose pairs hold two answers of the round's model, or one of it and one of the other model.

    Both see the same pictures and half of the candidates from each model, asked once and kept with the first variant; both train on
    equally many pairs, as many as the fewer.
    """

    def made(config: FeedbackConfig) -> FeedbackReport:
        root = Path(config.out)
        kept = plan.folder("one_model", seed) / "round-1"
        half = {"candidates": {**config.candidates.model_dump(), "n": max(2, config.candidates.n // 2)}}
        asked = {"data": str(kept / Path(str(config.data)).name)}
        own, other = (
            feedback(
                configs.load(FeedbackConfig, config.model_dump(by_alias=True), half, asked | {"model": model, "out": str(kept / name)})
            )
            for name, model in (("own", config.model), ("other", plan.other))
        )
        kinds = {"one_model": _of_one(own.out, config), "two_models": _across(own.out, other.out, config)}
        count = min(map(len, kinds.values()))
        return _written(root, own.out, kinds[variant][:count])

    return made


def _of_one(own: Path, config: FeedbackConfig) -> list[Any]:
    from mm_align.rlaif.pairs import paired

    return _drawn(paired(own, config.pairs), config)


def _across(own: Path, other: Path, config: FeedbackConfig) -> list[Any]:
    """Pairs of an answer of each model whose scores differ."""
    from mm_align.rlaif.files import answered, scores
    from mm_align.rlaif.pairs import Pair

    value = {(folder, score.subject_id): score.value for folder in (own, other) for score in scores(folder)}
    theirs = {sample.id: answers for sample, answers in answered(other)}

    def crossed() -> Iterator[Any]:
        for sample, answers in answered(own):
            for a, b in product(answers, theirs.get(sample.id, ())):
                known = (own, a.id) in value and (other, b.id) in value
                difference = value[own, a.id] - value[other, b.id] if known else 0
                if abs(difference) >= config.pairs.min_difference and a.text.strip() and b.text.strip() and a.text != b.text:
                    yield Pair(sample, *((a, b) if difference > 0 else (b, a)), abs(difference))

    return _drawn(crossed(), config)


def _drawn(pairs: Iterator[Any], config: FeedbackConfig) -> list[Any]:
    from mm_align.rlaif.pairs import balanced, draw

    kept: list[Any] = balanced(draw(pairs, config.pairs))
    return kept


def _written(root: Path, judged: Path, pairs: list[Any]) -> FeedbackReport:
    from data_tools.preference import write_pairs
    from mm_align.rlaif.pairs import preference

    root.mkdir(parents=True, exist_ok=True)
    for name in ("scores.jsonl", "judged.jsonl", "samples.jsonl"):
        (root / name).write_bytes((judged / name).read_bytes())
    write_pairs(root / "pairs.jsonl", (preference(pair) for pair in pairs))
    return FeedbackReport(root, root / "pairs.jsonl")


__all__ = ["Parts", "Plan", "draw_scenes", "final_model", "play"]
