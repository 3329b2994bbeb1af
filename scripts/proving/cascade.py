"""The cascade with image-text similarity among its signals, on held-out SceneWorld: calls spared, and the agreement of the audit sample.

    python scripts/proving/cascade.py --work runs/cascade        # prints the table of docs/cascade.md

tiny-aitqe is the model whose decisions are to be spared. Similarity comes from the tiny SigLIP-like encoder of `aitqe_scorer`, trained on
raw pairs of split `train`; the rows are of split `heldout`. What was made is kept in --work, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from aitqe_arms import draw, tiny_similarity

SEED = 7300  # of the rows that are judged


def measured(work: Path, source: str, encoder: str, agreement: float, calibration: int, similarity: bool) -> Mapping[str, Any]:
    """What the cascade came to over all rows of the source."""
    from mm_align.jobs.enhance.enhance import enhance

    stages = ["signals", "similarity", "aitqe"] if similarity else ["signals", "aitqe"]
    options: dict[str, Any] = {"similarity_model": encoder} if similarity else {}
    out = work / f"{'-'.join(stages)}-{agreement}"
    asked = {"mode": "decide", "poor": "drop", "cascade": True, "agreement": agreement, "calibration": calibration, "audit": 0.1}
    enhance(source, out, stages=stages, model="tiny-aitqe", **asked, **options)
    return cascade_of(out)


def cascade_of(out: Path) -> dict[str, Any]:
    """The cascade's part of a run's report."""
    import json

    told: dict[str, Any] = json.loads((out / "report.json").read_text())["run"]["cascade"]
    return told


def line(agreement: float, stages: str, told: Mapping[str, Any]) -> str:
    """A row of the table. A side: how many test rows on it the model agreed about, and the least rate that this shows."""
    sides = [told["calibrated"][fate] for fate in ("keep", "drop")]
    shown = [
        f"{side['right']} of {side['n']} ({side['lower']:.3f}){'' if side['threshold'] is not None else ', not enough'}" for side in sides
    ]
    spared = told["kept"] + told["dropped"]
    agrees = "nothing to audit"
    if told["audited"]:
        low, high = told["interval"]
        agrees = f"{told['agrees']} of {told['audited']} ({low:.3f} to {high:.3f})"
    return f"| {agreement:g} | {stages} | {shown[0]} | {shown[1]} | {spared} of {told['rows']} ({told['saved']:.1%}) | {agrees} |"


def main(argv: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--calibration", type=int, default=3000)
    parser.add_argument("--agreements", type=float, nargs="+", default=[0.98, 0.95])
    parser.add_argument("--pairs", type=int, default=4000, help="that the encoder learns from")
    parser.add_argument("--steps", type=int, default=200, help="of the encoder's training")
    parser.add_argument("--without", action="store_true", help="also the same without stage similarity")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    encoder = tiny_similarity(args.work, args.pairs, args.steps)
    source = draw(args.work / "heldout", args.rows, "heldout", SEED)
    print("| agreement asked for | stages | surely good: agreed (shown) | surely poor: agreed (shown) | spared | audit agrees |")
    print("|---|---|---|---|---|---|")
    for similarity in (True, False) if args.without else (True,):
        for agreement in args.agreements:
            told = measured(args.work, source, encoder, agreement, args.calibration, similarity)
            print(line(agreement, "signals, similarity" if similarity else "signals", told), flush=True)


if __name__ == "__main__":
    main()
