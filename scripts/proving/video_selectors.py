"""Training-free choice of frames at an equal budget: what each method finds of the needle, and what it costs the other questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from video_runs import FILM, MAIN, MOST, Films, Recipe, Run, measure, start

from data_tools.disk.durable import to_json, write_atomic
from video.frames import Candidates, sample, select

KEPT, TOKENS = 4, 16  # frames of MOST, tokens a frame
METHODS = ("uniform", "k_center", "dpp", "top_k", "bolt", "aks")


def compare(model_name: str, recipe: Recipe, films: Films, work: Path) -> None:
    """selectors.json: accuracy and loss by kind of question when KEPT frames are chosen by each method, by the model all runs start from.

    top_k, bolt and aks get a score a frame: how far its features are from the film's mean frame, which no question plays a part in.
    """
    model, processor = start(model_name)
    found: dict[str, Any] = {}
    for method in METHODS:
        chosen = torch.stack([film[torch.from_numpy(places(method, film.float()))] for film in films.features])
        run = Run(MAIN, KEPT, TOKENS)
        found[method] = measure(model, processor, run, replace_features(films, chosen), recipe)
        print(f"{method}: needle {found[method]['accuracy/needle']:.3f}, all {found[method]['accuracy']:.3f}", flush=True)
    write_atomic(work / "selectors.json", to_json({"frames": KEPT, "of": MOST, "tokens": TOKENS, "methods": found}))


def replace_features(films: Films, chosen: torch.Tensor) -> Films:
    """The same films with the chosen frames alone, each for as long as makes MOST again, so that `uniform` keeps them all."""
    return films._replace(features=chosen.repeat_interleave(MOST // KEPT, dim=1))


def places(method: str, film: torch.Tensor) -> np.ndarray:
    """[MOST, N, D] -> KEPT places."""
    if method == "uniform":
        return sample(FILM, "uniform", KEPT)
    frames = film.flatten(1).numpy()
    scores = np.linalg.norm(frames - frames.mean(0), axis=1)
    return select(Candidates.known(times=FILM.times, scores=scores, embeddings=frames), method, KEPT)
