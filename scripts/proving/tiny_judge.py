"""How well a model's yes and no about SceneWorld's held-out scenes agree with the truth: statements by kind, whole descriptions.

python scripts/proving/tiny_judge.py --model tiny-judge            # figures
python scripts/proving/tiny_judge.py --model tiny-judge --card     # and the bundled model's card
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from zoo.answering import yes_no
from zoo.chat_cards import write_judge_card
from zoo.judging import Asked, balanced_accuracy, by_kind, calibration_error, questions_of
from zoo.watch import auroc

from data_tools.calls import Backend
from data_tools.scenes.spec import SPEC
from mm_align.backends import load_backend

PIECES = re.compile(r"(?<=\.) |, (?=an? )| (?=and an? )")


def divided(backend: Backend, whole: Sequence[Asked]) -> list[int]:
    """How many sentences or clauses of each description the model rejects when it is asked about each by itself."""
    rows = []
    for k, asked in enumerate(whole):
        text = asked.question.split("\n")[0].replace("It shows ", "").rstrip(".")
        for piece in PIECES.split(text):
            said = piece.rstrip(".")
            statement = f"The image shows {said}." if said.startswith(("a ", "an ")) else f"{said}."
            rows.append((k, asked._replace(question=f"{statement} Is this right? Please answer yes or no.")))
    rejected = [0] * len(whole)
    for (k, _), answer in zip(rows, yes_no(backend, [row for _, row in rows]), strict=True):
        rejected[k] += answer.p_no >= answer.p_yes
    return rejected


def measure(model: str, per_kind: int, whole: int) -> dict:
    """Statements: balanced accuracy and calibration. Whole descriptions: rated at once, and statement by statement."""
    backend = load_backend(model)
    made = questions_of("heldout", per_kind, whole, "proof")
    found = yes_no(backend, made)
    statements = [(m, a) for m, a in zip(made, found, strict=True) if m.kind != "whole"]
    rated = [(m, a) for m, a in zip(made, found, strict=True) if m.kind == "whole"]
    wholes, at_once = [m for m, _ in rated], [a.p_yes - a.p_no for _, a in rated]
    rejected = divided(backend, wholes)
    agreed = [(n == 0) == m.true for m, n in zip(wholes, rejected, strict=True)]
    return {
        "title": "SceneWorld, held-out scenes",
        "model": backend.describe(),
        "sceneworld": SPEC["version"],
        "data": f"{per_kind} statements of each kind, half of them false, and {whole} descriptions of held-out scenes, seeded",
        "balanced_accuracy": by_kind(made, found),
        "ece": calibration_error(*zip(*statements, strict=True)),
        "outside": round(sum(1 - a.p_yes - a.p_no for a in found) / len(found), 6),
        "whole": {
            "balanced_accuracy": balanced_accuracy(*zip(*rated, strict=True)),
            "auroc": round(_auroc(wholes, at_once), 4),
            "ece": calibration_error(*zip(*rated, strict=True)),
        },
        "divided": {
            "agreement": round(sum(agreed) / len(agreed), 4),
            "auroc": round(_auroc(wholes, [-n for n in rejected]), 4),
        },
    }


def _auroc(wholes: Sequence[Asked], values: Sequence[float]) -> float:
    return auroc(*([v for m, v in zip(wholes, values, strict=True) if m.true == truth] for truth in (True, False)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-judge", help="folder, hub id or bundled model")
    parser.add_argument("--per-kind", type=int, default=200)
    parser.add_argument("--whole", type=int, default=400)
    parser.add_argument("--log", type=Path, default=Path("runs/zoo/tiny-judge/log.jsonl"), help="the training log, for the card's curve")
    parser.add_argument("--card", action="store_true", help="write the bundled model's card and figures")
    options = parser.parse_args()
    measured = measure(options.model, options.per_kind, options.whole)
    print(json.dumps(measured, indent=1))
    if options.card:
        write_judge_card(Path("mm_align/zoo") / options.model, measured, options.log)


if __name__ == "__main__":
    main()
