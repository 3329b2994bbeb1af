"""What token reducers cost beside the tower whose tokens they reduce, as shares of its time in one run.

    python scripts/bench/reducers.py

A random SigLIP tower of base size (224 pixels, patches of 16, 196 tokens of 768), 16 frames, float32, one thread; CPU seconds, interleaved,
median [least-most] of five. Reducers that need attention are given it ready made: reading it out of a tower is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

sys.path.append(sys.path.pop(0))  # a script beside this one has the name of a package: their folder must not come first

import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from video.tokens import REDUCERS, Reducer

ROUNDS, FRAMES = 5, 16


def seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower = SiglipVisionModel(SiglipVisionConfig(vision_use_head=False)).eval()
    pixels = torch.randn(args.frames, 3, 224, 224)
    features = tower(pixels).last_hidden_state
    side = int(features.shape[1] ** 0.5)
    more = {"attention": torch.rand(features.shape[:2]), "keys": features[..., :64], "pixels": pixels, "pooled": features.mean(1)}

    def reduced(reducer: Reducer) -> Callable[[], object]:
        return lambda: reducer(features, (side, side), **{name: more[name] for name in reducer.needs})

    works = {"tower": lambda: tower(pixels), **{name: reduced(kind()) for name, kind in REDUCERS.items()}}
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(args.rounds):
        for name, work in works.items():
            found[name].append(seconds(work))
    print(f"tower, {args.frames} frames: {statistics.median(found['tower']):.3g} CPU s")
    for name in REDUCERS:
        shares = [mine / whole for mine, whole in zip(found[name], found["tower"], strict=True)]
        print(f"  {name:<14} {statistics.median(shares):.2%} of the tower [{min(shares):.2%}-{max(shares):.2%}]")


if __name__ == "__main__":
    main()
