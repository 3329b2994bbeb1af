"""The middle frame of each of n equal intervals: VideoChat-Flash and InternVideo2.5."""

from __future__ import annotations

import numpy as np

from .base import Timed


def interval_middle(info: Timed, n: int | None = None, *, group: int = 4, least: int = 1, most: int | None = None) -> np.ndarray:
    """Intervals [x_i, x_i+1) with x = int(linspace(0, N, n + 1)), of each the frame (x_i + x_i+1 - 1) // 2
    [R: OpenGVLab/VideoChat-Flash llava/video_utils.py, get_frame_indices "middle"].

    Without n the rule "dynamic_fps1": as many frames as whole groups of `group` seconds have seconds, at least one group, at least
    `least` and at most `most`. A film of fewer frames gives them all; the source repeats the last one instead.
    """
    if n is None:
        n = group * max(int(_seconds(info) // group), 1)
        n = max(min(n, most or n), least if least <= info.n_frames else info.n_frames // group * group)
    edges = np.linspace(0, info.n_frames, min(n, info.n_frames) + 1).astype(np.int64)
    return (edges[:-1] + edges[1:] - 1) // 2


def _seconds(info: Timed) -> float:
    return info.n_frames / info.fps if info.fps > 0 else info.duration
