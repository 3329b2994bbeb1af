"""What a quality model can do on SceneWorld's held-out scenes: JSON, decisions by kind, rewrites against the truth, scores.

python scripts/proving/tiny_aitqe.py --model tiny-aitqe                       # figures
python scripts/proving/tiny_aitqe.py --model tiny-aitqe --card                # and the bundled model's card
python scripts/proving/tiny_aitqe.py --model MODEL --data SCENES              # any model, scenes of `mmalign scenes make`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import PIL.Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from zoo.card import write_card
from zoo.watch import by_kind, drawn, mixed_rows

from data_tools.aitqe import AitqeStep, Policy
from data_tools.io import list_shards, read
from data_tools.records import Image, Sample, Verdict
from data_tools.scenes.extract import agreement, f1
from data_tools.scenes.render import render
from data_tools.scenes.rows import Captioned
from data_tools.scenes.spec import SPEC
from data_tools.scenes.world import Scene
from mm_align.backends import load_backend


def samples(made: Sequence[Captioned], blind: bool = False) -> list[Sample]:
    """The captions with their pictures, or with a grey picture of the same size."""
    pictures = [PIL.Image.new("RGB", (m.scene.size,) * 2, (128, 128, 128)) if blind else render(m.scene) for m in made]
    return [Sample(str(k), (), (Image(pixels=p),), m.text) for k, (m, p) in enumerate(zip(made, pictures, strict=True))]


def from_folder(folder: str, limit: int) -> list[Captioned]:
    """Rows of `mmalign scenes make`, which carry their truth."""
    rows = [row for shard in list_shards(folder) for row in read(shard, limit=limit) if isinstance(row, Sample)][:limit]
    truths = [row.meta["sceneworld"] for row in rows]
    return [Captioned(Scene.from_dict(t["scene"]), r.caption or "", t["kind"], t["severity"]) for r, t in zip(rows, truths, strict=True)]


def judged(step: AitqeStep, asked: Sequence[Sample], block: int = 64) -> list[Verdict]:
    return [v for start in range(0, len(asked), block) for v in step(asked[start : start + block])]


def decisions(backend, made: Sequence[Captioned], blind: bool) -> list[float]:
    step = AitqeStep(backend.generate, backend.likelihood, mode="decide", policy=Policy("score-only"))
    return [v.p_rewrite if v.p_rewrite is not None else 0.5 for v in judged(step, samples(made, blind))]


def decision_figures(backend, made: Sequence[Captioned]) -> dict:
    """AUROC of p(rewrite) by kind with the picture and with grey instead; accuracy at 0.5."""
    seen, blind = (decisions(backend, made, blind) for blind in (False, True))
    right = [(p > 0.5) == (m.kind != "good") for m, p in zip(made, seen, strict=True)]
    return {
        "rows": len(made),
        "auroc": by_kind(made, seen),
        "auroc_blind": by_kind(made, blind),
        "accuracy": round(sum(right) / len(right), 4),
    }


def answer_figures(backend, made: Sequence[Captioned]) -> dict:
    """Valid JSON, rank correlation of the score with severity, and rewrites against raw captions and the truth."""
    from scipy.stats import spearmanr

    step = AitqeStep(backend.generate, None, mode="full", policy=Policy("model"))
    verdicts = judged(step, samples(made))
    scored = [(m.severity, v.scores["overall"]) for m, v in zip(made, verdicts, strict=True) if v.scores.get("overall") is not None]
    rewritten = [(m, v.text) for m, v in zip(made, verdicts, strict=True) if v.action == "rewrite" and v.text]
    raw = [agreement(m.text, m.scene) for m, _ in rewritten]
    new = [agreement(text, m.scene) for m, text in rewritten]
    return {
        "rows": len(made),
        "valid_json": round(sum(v.parse_status == "ok" for v in verdicts) / len(verdicts), 4),
        "severity_spearman": round(-spearmanr(*zip(*scored, strict=True)).statistic, 4),
        "rewrites": len(rewritten),
        "raw_f1": round(f1(raw), 4),
        "rewrite_f1": round(f1(new), 4),
        "raw_hallucinating": round(sum(a.invented > 0 for a in raw) / max(1, len(raw)), 4),
        "rewrite_hallucinating": round(sum(a.invented > 0 for a in new) / max(1, len(new)), 4),
        "actions": {a: sum(v.action == a for v in verdicts) for a in ("keep", "rewrite")},
    }


def measure(model: str, data: str | None, per_kind: int, good: int, answers: int) -> dict:
    """All figures; answers are measured on rows as the spec mixes them, decisions on equally many of each kind."""
    backend = load_backend(model)
    if data:
        mixed = equal = from_folder(data, answers)
    else:
        equal = drawn("heldout", per_kind, good, "proof")
        mixed = mixed_rows("heldout", answers, "proof")
    return {
        "title": "SceneWorld, held-out scenes",
        "model": backend.describe(),
        "sceneworld": SPEC["version"],
        "data": f"rows of `{Path(data).name}`"
        if data
        else f"heldout, seeded, {per_kind} of each corruption and {good} good; answers on {answers} mixed rows",
        "decision": decision_figures(backend, equal),
        "answer": answer_figures(backend, mixed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-aitqe")
    parser.add_argument("--data", help="folder of `mmalign scenes make`; default: held-out scenes drawn here")
    parser.add_argument("--per-kind", type=int, default=150)
    parser.add_argument("--good", type=int, default=900)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--log", type=Path, default=Path("runs/zoo/log.jsonl"), help="the training log, for the card's learning curve")
    parser.add_argument("--card", action="store_true", help="write the bundled model's card and figures")
    options = parser.parse_args()
    figures = measure(options.model, options.data, options.per_kind, options.good, options.answers)
    print(json.dumps(figures, indent=1))
    if options.card:
        write_card(Path("mm_align/zoo") / options.model, figures, options.log)


if __name__ == "__main__":
    main()
