"""LLaVA-Video's rule: every so many frames, or equally many from the first to the last."""

from __future__ import annotations

import numpy as np

from .base import Timed, linspace


def llava_video(info: Timed, n: int | None = None, *, rate: float = 1.0, force: bool = False) -> np.ndarray:
    """range(0, N, round(fps / rate)); where that is more than n, or with `force`, linspace(0, N - 1, n) truncated
    [R: LLaVA-VL/LLaVA-NeXT llava/utils.py, process_video_with_decord].

    A film slower than `rate` has a stride of 0 in the source, which raises there; here it is 1. A film of fewer than n frames gives
    them all; with `force` the source repeats some.
    """
    if not rate > 0:
        raise ValueError(f"a rate is a positive number of frames a second, got {rate}")
    strided = np.arange(0, info.n_frames, max(round(info.fps / rate), 1))
    return linspace(info.n_frames - 1, n) if n is not None and (force or len(strided) > n) else strided
