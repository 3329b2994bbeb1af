"""What a quality model is worth on held-out rows with truth: decisions, scores, rewrites."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from scipy.stats import spearmanr
from zoo.watch import auroc

from data_tools.aitqe import AitqeStep, Policy, parse
from data_tools.aitqe.prompt import AITQE_PROMPT, GENERAL_PROMPT
from data_tools.calls import Backend
from data_tools.filters.mlm_filter import MlmFilter
from data_tools.io import decode, list_shards, read
from data_tools.records import Image, Sample, Verdict
from data_tools.scenes.extract import Agreement, agreement, f1
from data_tools.scenes.opinion import opinion
from data_tools.scenes.rows import Captioned
from data_tools.scenes.spec import SPEC
from data_tools.scenes.world import Scene
from data_tools.text import words

BLOCK = 64
NEEDING = frozenset(kind for kind, told in SPEC["corruptions"].items() if told["needs_image"])


class Case(NamedTuple):
    """A row with its truth. score: what a perfect judge (or the judge) gives it. kind: "good", a corruption, or the row's kind A to D.
    scene: what is in the picture, where that is known. reference: the caption it should get, where it should get one."""

    sample: Sample
    good: bool
    score: float
    kind: str
    scene: Scene | None
    reference: str | None


def cases(path: str, limit: int | None = None) -> list[Case]:
    """Rows of `mmalign scenes make`, whose truth is theirs, or of `mmalign aitqe data`, whose truth is its judge's; else ValueError."""
    found = (row for shard in list_shards(path) for row in read(shard) if isinstance(row, Sample))
    return [_case(row) for row in islice(found, limit)]


def _case(row: Sample) -> Case:
    shown = Sample(row.id, (), (Image(pixels=decode(row.images[0]).pixels),), row.caption)
    told = row.meta.get("meta", {}).get("aitqe") if "schema" in row.meta else None
    if told:
        reply, truth = parse(row.messages[-1].parts[-1].text), row.meta["meta"].get("sceneworld")
        scene = Scene.from_dict(truth["scene"]) if truth else None
        return Case(shown, told["kind"] in "AD", reply.overall or 0.0, told["kind"], scene, reply.recaption)
    truth = row.meta.get("sceneworld")
    if truth is None:
        raise ValueError(f"row {row.id}: no truth; give rows of `mmalign scenes make` or `mmalign aitqe data`")
    scene = Scene.from_dict(truth["scene"])
    right = opinion(Captioned(scene, row.caption or "", truth["kind"], truth["severity"]))
    return Case(shown, truth["kind"] == "good", right.overall or 0.0, truth["kind"], scene, right.recaption)


# -- models that answer as AITQE does ----------------------------------------------------------------------------------


def measure(backend: Backend, rows: Sequence[Case]) -> dict[str, Any]:
    """One answer a row, up to its overall score; its first branch is the decision, its recaption the rewrite."""
    verdicts = judged(backend, rows)
    p = [v.p_rewrite for v in verdicts]
    scores = [v.scores.get("overall") for v in verdicts]
    scored = [(case.score, s) for case, s in zip(rows, scores, strict=True) if s is not None]
    return {
        "rows": len(rows),
        "scored": round(len(scored) / len(rows), 4),
        "decision": separation(rows, [0.5 if value is None else value for value in p]),
        "accuracy": _share((v.action == "rewrite") != case.good for case, v in zip(rows, verdicts, strict=True)),
        "score": separation(rows, [-5.5 if s is None else -s for s in scores]),
        "spearman": round(float(spearmanr(*zip(*scored, strict=True)).statistic), 4) if len({s for _, s in scored}) > 1 else 0.0,
        "rewriting": rewriting(rows, verdicts),
    }


def judged(backend: Backend, rows: Sequence[Case]) -> list[Verdict]:
    style = getattr(getattr(getattr(backend, "prompts", None), "processor", None), "prompt_style", "chat")
    prompt = AITQE_PROMPT if style == "plain" else GENERAL_PROMPT
    step = AitqeStep(backend.generate, None, prompt, mode="scores", policy=Policy("model"))
    return [v for start in range(0, len(rows), BLOCK) for v in step([case.sample for case in rows[start : start + BLOCK]])]


def separation(rows: Sequence[Case], badness: Sequence[float]) -> dict[str, float]:
    """AUROC of bad captions against good ones: of all, of each kind, and of the kinds that need the picture together."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for case, value in zip(rows, badness, strict=True):
        by_kind["good" if case.good else case.kind].append(value)
    good = by_kind.pop("good")
    bad = {"all": [v for values in by_kind.values() for v in values], **by_kind}
    needing = [v for kind, values in by_kind.items() if kind in NEEDING for v in values]
    bad |= {"needs_image": needing} if needing else {}
    return {kind: round(auroc(values, good), 4) for kind, values in bad.items()}


def rewriting(rows: Sequence[Case], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Objects of captions against the scene: of the rewritten rows before and after, and of all rows as they leave.

    hallucinating: captions that name an object which is not there; recall and precision: of objects with all that is said of them.
    """
    pairs = [(case.scene, case.sample.caption or "", v.text or "") for case, v in zip(rows, verdicts, strict=True) if v.action == "rewrite"]
    known = [(scene, raw, new) for scene, raw, new in pairs if scene is not None]
    leaving = [(c.scene, v.text or c.sample.caption or "") for c, v in zip(rows, verdicts, strict=True) if c.scene is not None]
    return {
        "rewritten": len(pairs),
        "before": faithfulness([agreement(raw, scene) for scene, raw, _ in known]),
        "after": faithfulness([agreement(new, scene) for scene, _, new in known]),
        "raw": faithfulness([agreement(c.sample.caption or "", c.scene) for c in rows if c.scene is not None]),
        "enhanced": faithfulness([agreement(text, scene) for scene, text in leaving]),
        "overlap": overlap(rows, verdicts),
    }


def overlap(rows: Sequence[Case], verdicts: Sequence[Verdict]) -> float | None:
    """Mean F1 of the words of rewrites against the captions that the judge (or the truth) has for these rows; None where there are none."""
    both = [(c.reference, v.text) for c, v in zip(rows, verdicts, strict=True) if v.action == "rewrite" and c.reference and v.text]
    counted = [(Counter(words(old)), Counter(words(new))) for old, new in both]
    values = [2 * (a & b).total() / max(1, a.total() + b.total()) for a, b in counted]
    return round(sum(values) / len(values), 4) if values else None


def faithfulness(found: Sequence[Agreement]) -> dict[str, float] | None:
    """None where there is no caption."""
    if not found:
        return None
    claimed, right, truth = (sum(getattr(a, name) for a in found) for name in ("claimed", "right", "truth"))
    return {
        "f1": round(f1(found), 4),
        "recall": round(right / max(1, truth), 4),
        "precision": round(right / max(1, claimed), 4),
        "hallucinating": _share(a.invented > 0 for a in found),
    }


def _share(values: Any) -> float:
    counted = [bool(value) for value in values]
    return round(sum(counted) / max(1, len(counted)), 4)


# -- baselines: one number a row ---------------------------------------------------------------------------------------


def measure_single(backend: Backend, rows: Sequence[Case]) -> dict[str, Any]:
    """MLM-Filter's four metrics and their mean as badness; a score that cannot be read counts as 50."""
    told = MlmFilter(backend.generate)
    signals = [s for start in range(0, len(rows), BLOCK) for s in told([case.sample for case in rows[start : start + BLOCK]])]
    columns = {name: [_number(s[name]) for s in signals] for name in told.names}
    columns["mean"] = [sum(values) / len(values) for values in zip(*columns.values(), strict=True)]
    unread = sum(s[name] is None for s in signals for name in told.names)
    return {"rows": len(rows), "unread": unread} | {name: _single(rows, values) for name, values in columns.items()}


def measure_scorer(scorer: Callable[[Sequence[Sample]], Sequence[float]], rows: Sequence[Case]) -> dict[str, Any]:
    """An image-text similarity, more is better."""
    found = [float(v) for start in range(0, len(rows), BLOCK) for v in scorer([case.sample for case in rows[start : start + BLOCK]])]
    return {"rows": len(rows), "similarity": _single(rows, found)}


def _single(rows: Sequence[Case], values: Sequence[float]) -> dict[str, Any]:
    truth = [case.score for case in rows]
    return {
        "score": separation(rows, [-value for value in values]),
        "spearman": round(float(spearmanr(truth, values).statistic), 4) if len(set(values)) > 1 else 0.0,
    }


def _number(value: Any) -> float:
    return 50.0 if value is None else float(value)
