"""One frame a scene: the film is cut where neighbouring frames differ most, and the middle of each piece taken."""

from __future__ import annotations

import numpy as np

from .base import best_first
from .candidates import Candidates


def scene_changes(candidates: Candidates, n: int) -> np.ndarray:
    """n pieces by the n - 1 largest Euclidean distances between neighbouring embeddings, of each the frame (first + last) // 2.

    Embeddings may come from `colours`, which needs no model. Equal distances are cut evenly over the film.
    """
    embeddings = candidates.embeddings()
    steps = np.linalg.norm(np.diff(embeddings, axis=0), axis=1)
    cuts = np.sort(best_first(steps)[: n - 1]) + 1
    edges = np.concatenate([[0], cuts, [len(embeddings)]])
    return (edges[:-1] + edges[1:] - 1) // 2


def colours(frames: np.ndarray, bins: int = 8, cells: int = 2) -> np.ndarray:
    """Colour histograms [m, D] of uint8 frames [m, 3, H, W], one of `bins` a channel for each of cells x cells parts of the picture.

    Shares of a part's pixels, so frames of any size compare; an embedding that asks no model.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames are uint8 [m, 3, H, W], got {frames.dtype} {frames.shape}")
    binned = (frames.astype(np.int64) * bins) // 256
    rows, columns = (np.array_split(np.arange(side), cells) for side in frames.shape[2:])
    parts = [binned[:, :, r[0] : r[-1] + 1, c[0] : c[-1] + 1] for r in rows for c in columns if len(r) and len(c)]
    shares = [(part[..., None] == np.arange(bins)).mean(axis=(2, 3)) for part in parts]  # [m, 3, bins]
    return np.concatenate([share.reshape(len(frames), -1) for share in shares], axis=1)
