"""VideoLLaMA3's rule: one frame a segment of the rate, or equally many from the first to the last for a long film."""

from __future__ import annotations

import numpy as np

from .base import Timed, linspace

MOST = 768  # MAX_FRAMES of its constants.py


def videollama3(info: Timed, n: int | None = None, *, rate: float | None = 1.0) -> np.ndarray:
    """Segments of min(fps // rate, N) frames, of each the frame in its middle, where the film has less seconds than n; else
    linspace(0, N - 1, n) truncated, and all frames where there are no more than n
    [R: DAMO-NLP-SG/VideoLLaMA3 videollama3/mm_utils.py, load_video_from_ids and frame_sample].

    n: the source's max_frames. rate None: always the second way. At a rate above 1 the source may give more than n, which here takes
    the second way too; a film slower than `rate` fails there and gives every frame here.
    """
    if rate is not None and not rate > 0:
        raise ValueError(f"a rate is a positive number of frames a second, got {rate}")
    most = n or MOST
    spread = linspace(info.n_frames - 1, most)
    if rate is None or info.fps <= 0 or info.n_frames / info.fps >= most:
        return spread
    segment = max(int(min(info.fps // rate, info.n_frames)), 1)
    middles = np.arange(segment // 2, info.n_frames, segment)
    return middles if len(middles) <= most else spread
