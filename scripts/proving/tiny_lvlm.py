"""What an image-text model says of SceneWorld's held-out scenes: objects it invents, names and misreads, and short answers.

python scripts/proving/tiny_lvlm.py --model tiny-lvlm            # figures
python scripts/proving/tiny_lvlm.py --model tiny-lvlm --card     # and the bundled model's card
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from zoo.answering import accuracy_of_answers, described
from zoo.chat_cards import write_lvlm_card
from zoo.describing import figures, mixed_share, told
from zoo.lvlm import BRIEF, DETAILED

from data_tools.calls import Sampling
from data_tools.scenes.spec import SPEC
from data_tools.scenes.world import sample_scene
from mm_align.backends import load_backend

WAYS = {"greedy": 0.0, "temperature 0.7": 0.7, "temperature 1": 1.0}


def measure(model: str, scenes: int, candidates: int, questions: int, prompt: str) -> dict:
    """Descriptions greedy and sampled (`candidates` of each picture), brief ones, and answers to questions of as many scenes."""
    backend = load_backend(model)
    rng = random.Random("proof-lvlm")
    drawn = [sample_scene(rng, "heldout") for _ in range(scenes)]
    detailed, mixed = {}, {}
    for way, temperature in WAYS.items():
        sampling = Sampling(n=candidates if temperature else 1, temperature=temperature, max_tokens=200)
        groups = [[told(t, s) for t in texts] for texts, s in zip(described(backend, drawn, prompt, sampling), drawn, strict=True)]
        detailed[way] = figures([one for group in groups for one in group])
        if temperature:
            mixed[way] = mixed_share(groups)
    brief = described(backend, drawn, BRIEF[0], Sampling(max_tokens=100))
    return {
        "title": "SceneWorld, held-out scenes",
        "model": backend.describe(),
        "sceneworld": SPEC["version"],
        "data": f"{scenes} held-out scenes, seeded; {candidates} candidates where sampled; questions of {questions} scenes",
        "prompt": prompt,
        "detailed": detailed,
        "mixed": mixed,
        "candidates": candidates,
        "brief": figures([told(texts[0], s) for texts, s in zip(brief, drawn, strict=True)]),
        "answers": accuracy_of_answers(backend, "heldout", questions, "proof"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-lvlm", help="folder, hub id or bundled model")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--questions", type=int, default=200, help="scenes whose questions are asked")
    parser.add_argument("--prompt", default=DETAILED[0])
    parser.add_argument("--log", type=Path, default=Path("runs/zoo/tiny-lvlm/log.jsonl"), help="the training log, for the card's curve")
    parser.add_argument("--card", action="store_true", help="write the bundled model's card and figures")
    options = parser.parse_args()
    measured = measure(options.model, options.scenes, options.candidates, options.questions, options.prompt)
    print(json.dumps(measured, indent=1))
    if options.card:
        write_lvlm_card(Path("mm_align/zoo") / options.model, measured, options.log)


if __name__ == "__main__":
    main()
