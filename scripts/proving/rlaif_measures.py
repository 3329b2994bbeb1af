"""What is measured of the RLAIF-V proof's models: answers to the test pictures, labels against the truth, best of N."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rlaif_runs import JUDGED_WHOLE, Plan, final_model

from data_tools.calls import Sampling
from data_tools.records import Response
from data_tools.scenes.extract import agreement
from data_tools.scenes.world import Scene
from mm_align import config as configs
from mm_align.backends import load_backend
from mm_align.evals import build_benchmark
from mm_align.evals.objects import ObjectsBenchmark, Told
from mm_align.jobs.feedback.feedback import FeedbackConfig, feedback
from mm_align.rewards import ImplicitReward, LikelihoodReward
from mm_align.rlaif.files import answered, scores
from mm_align.search import best_of_n, replay_audit
from mm_align.search.replay_audit import AS_IT_IS, Change, Remembered, changes

NS = (1, 2, 4, 8, 16)


def suite_of(plan: Plan) -> ObjectsBenchmark:
    """The reported benchmark."""
    suite = build_benchmark(plan.rounds_config("rounds", 0).test[0])
    assert isinstance(suite, ObjectsBenchmark)
    return suite


def start_model(plan: Plan) -> str:
    return plan.rounds_config("rounds", 0).model


# -- answers -----------------------------------------------------------------------------------------------------------


def answers_of(plan: Plan, name: str, model: str) -> dict[str, str]:
    """Greedy answers to the test pictures by sample id, asked once and kept in `answers/NAME.json`."""
    path = plan.work / "answers" / f"{name}.json"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        suite = suite_of(plan)
        said = load_backend(model).generate(suite.samples(), suite.sampling)
        path.write_text(json.dumps({response.sample_id: response.text for response in said}, indent=0), encoding="utf-8")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def told_of(suite: ObjectsBenchmark, answers: Mapping[str, str]) -> list[Told]:
    """What each answer names, in the order of the pictures."""
    return suite.told({key: Response(key, key, text) for key, text in answers.items()})


def told_of_pools(suite: ObjectsBenchmark, pools: Mapping[str, Sequence[Response]]) -> dict[str, list[Told]]:
    """The same for several answers to each picture."""
    ids = [picture.sample.id for picture in suite.pictures]
    found: dict[str, list[Told]] = {key: [] for key in pools}
    for place in range(max(map(len, pools.values()), default=0)):
        here = {key: pool[place] for key, pool in pools.items() if place < len(pool)}
        for key, told in zip(ids, suite.told(here), strict=True):
            if key in here:
                found[key].append(told)
    return found


def cut_to(answers: Mapping[str, str], words: float) -> dict[str, str]:
    """Every answer without its end, cut at the same share of its words, so that the mean length is `words` at most."""
    mean = sum(len(text.split()) for text in answers.values()) / len(answers)
    share = min(1.0, words / mean)
    return {key: " ".join(text.split()[: round(share * len(text.split()))]) for key, text in answers.items()}


# -- labels against the truth --------------------------------------------------------------------------------------------


def judging(plan: Plan, seed: int) -> None:
    """The start model's candidates for the test pictures, labelled claim by claim and as wholes, against what is there."""
    folder = plan.folder("judging", seed)
    if (folder / "judging.json").is_file():
        return
    base = plan.rounds_config("rounds", seed)
    told: dict[str, Any] = {}
    for way, changed in (("divided", {}), ("whole", JUDGED_WHOLE)):
        run = {"model": base.model, "judge": base.judge, "data": plan.data[2], "out": str(folder / way)}
        drawn = {"candidates": {"seed": seed}}
        config = configs.load(FeedbackConfig, base.feedback, drawn, changed, run)
        told[way] = agreements(plan, feedback(config).out)
    (folder / "judging.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def agreements(plan: Plan, folder: Path) -> dict[str, dict[str, float]]:
    """For each notion of truth: how often "no claim rejected" says rightly that an answer is free of errors, and of two answers to one
    picture with unequal numbers of errors, how often the better one scores higher (equal scores count half)."""
    suite = suite_of(plan)
    value = {score.subject_id: score.value for score in scores(folder)}
    known = {sample.id: [a for a in answers if a.id in value] for sample, answers in answered(folder)}
    told = told_of_pools(suite, known)
    errors: dict[str, list[list[tuple[float, float]]]] = {"objects": [], "attributes": []}
    for picture in suite.pictures:
        answers = known.get(picture.sample.id, [])
        scores_ = [value[answer.id] for answer in answers]
        errors["objects"].append([(v, one.invented) for v, one in zip(scores_, told.get(picture.sample.id, []), strict=True)])
        scene = picture.sample.meta.get("sceneworld", {}).get("scene")
        if scene is not None:  # what no data but SceneWorld's tell: every stated size, texture and place
            found = [agreement(answer.text, Scene.from_dict(scene)) for answer in answers]
            errors["attributes"].append([(v, one.claimed - one.right) for v, one in zip(scores_, found, strict=True)])
    return {name: _agreement(rows) for name, rows in errors.items() if rows}


def _agreement(rows: Sequence[Sequence[tuple[float, float]]]) -> dict[str, float]:
    flat = [pair for row in rows for pair in row]
    right = [float((value >= 0) == (wrong == 0)) for value, wrong in flat]
    clean = [r for r, (_, wrong) in zip(right, flat, strict=True) if wrong == 0]
    spoilt = [r for r, (_, wrong) in zip(right, flat, strict=True) if wrong]
    two = [(a, b) for row in rows for a, b in combinations(row, 2) if a[1] != b[1]]
    ordered = [0.5 if a[0] == b[0] else float((a[0] > b[0]) == (a[1] < b[1])) for a, b in two]
    decided = [o for o in ordered if o != 0.5]
    return {
        "answers": len(flat),
        "balanced": (_mean(clean) + _mean(spoilt)) / 2,
        "agreement": _mean(right),
        "pairs": len(two),
        "pairs_right": _mean(ordered),
        "pairs_decided": len(decided) / max(1, len(ordered)),
        "pairs_right_of_decided": _mean(decided),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


# -- best of N -----------------------------------------------------------------------------------------------------------


def best_of(plan: Plan, seed: int) -> None:
    """16 answers of the start model and of the rounds' model to each test picture, the best of the first N by several rewards."""
    path = plan.folder("best-of", seed) / "best_of.json"
    if path.is_file():
        return
    suite, base = suite_of(plan), plan.rounds_config("rounds", seed)
    start, trained = load_backend(base.model), load_backend(final_model(plan, "rounds", seed))
    beta = float(base.train.get("objective", {}).get("beta", 0.1))
    policy, reference = Remembered(trained.likelihood), Remembered(start.likelihood)
    rewards = {
        "reward": ImplicitReward(policy, reference, beta=beta),
        "reward, not divided": ImplicitReward(policy, reference, beta=beta, normalise=False),
        "likelihood, trained": LikelihoodReward(policy),
        "likelihood, start": LikelihoodReward(reference),
    }
    sampling = Sampling(n=max(NS), temperature=1.0, max_tokens=suite.sampling.max_tokens, seed=seed)
    samples = suite.samples()
    told: dict[str, Any] = {}
    for sampler, backend in (("start", start), ("trained", trained)):
        drawn = backend.generate(samples, sampling)
        for name, reward in rewards.items():
            choices = best_of_n(samples, lambda *_, drawn=drawn: drawn, reward, sampling)
            told[f"{sampler}: {name}"] = [_chosen(suite, choices, n) for n in NS]
        told[f"{sampler}: flips"] = _flips(samples, drawn, policy, reference, beta, sampling.n)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _chosen(suite: ObjectsBenchmark, choices: Sequence[Any], n: int) -> dict[str, Any]:
    """Figures of the best of the first n of each pool; at 1 the mean over all candidates of what a single one would be."""
    pools = {c.sample_id: c.candidates if n == 1 else [c.best_of(n) or c.candidates[0]] for c in choices}
    told = list(told_of_pools(suite, pools).values())
    flat = [one for pool in told for one in pool]
    return {
        "n": n,
        "hallucinating": _mean([float(one.fails) for one in flat]),
        "coverage": sum(one.named for one in flat) / max(1, sum(one.truth for one in flat)),
        "words": _mean([one.words for one in flat]),
        "by_picture": [round(_mean([float(one.fails) for one in pool]), 4) for pool in told],
    }


def _flips(samples: Sequence[Any], drawn: Sequence[Response], policy: Any, reference: Any, beta: float, n: int) -> dict[str, float]:
    """Mean share of pools whose winner flips under other temperatures and subsets of tokens."""
    pools = [list(drawn[i : i + n]) for i in range(0, len(drawn), n)]
    selectors = audit_selectors(policy, reference, beta)
    under = [change for change in changes(normalisation=False) if change != AS_IT_IS]
    found = replay_audit(samples, pools, selectors, under)
    return {name: _mean([flips.rate for flips in found if flips.selector == name]) for name in selectors}


def audit_selectors(policy: Any, reference: Any, beta: float) -> dict[str, Any]:
    from mm_align.search.replay_audit import changed

    def ratio(change: Change) -> Any:
        return ImplicitReward(changed(policy, change), changed(reference, change), beta=beta, normalise=change.normalise)

    def likelihood(change: Change) -> Any:
        return LikelihoodReward(changed(policy, change), normalise=change.normalise)

    return {"log-ratio": ratio, "likelihood": likelihood}
