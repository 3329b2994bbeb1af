"""Qwen-VL's rule: how many frames, which, and how large each may be (qwen-vl-utils 0.0.14, for Qwen2-VL to Qwen3-VL)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .base import Timed

FACTOR = 2  # frames come in pairs, and a token is 2 x 2 patches
LEAST_TOKENS, MOST_TOKENS = 128, 768  # of one frame
CONTEXT = 128_000
LEAST_FRAMES, MOST_FRAMES = 4, 768
MOST_RATIO = 200


class Window(NamedTuple):
    """The frames first .. last of a stretch of film."""

    first: int
    last: int


def qwen_vl(
    info: Timed,
    n: int | None = None,
    *,
    rate: float = 2.0,
    least: int = LEAST_FRAMES,
    most: int | None = None,
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """`torch.linspace(first, last, count).round()`, halves to even [R: QwenLM/Qwen3-VL qwen_vl_utils/vision_process.py].

    count: n rounded to even, or seconds x rate within `least` and `most`, rounded down to even; see `smart_frames`. start, end: seconds;
    at a constant rate the frames ceil(start fps) .. floor(end fps), at a variable one those whose times lie between.

    A stretch of one frame, which the source refuses, gives that frame. ValueError for negative times or an end before the start.
    """
    window = _window(info, start, end)
    total = window.last - window.first + 1
    if total < FACTOR:
        return np.array([window.first])
    if n is None and info.fps <= 0:
        raise ValueError("the rule of Qwen-VL counts frames by the film's rate, which this file does not tell; give n")
    count = min(_rounded(n), total // FACTOR * FACTOR) if n is not None else smart_frames(total, info.fps, rate, least, most)
    return _rounded_places(window, count)


def smart_frames(total: int, fps: float, rate: float = 2.0, least: int = LEAST_FRAMES, most: int | None = None) -> int:
    """How many frames the rule takes of `total` at `fps`: total / fps x rate, at least `least`, at most `most` (768), even."""
    least = math.ceil(least / FACTOR) * FACTOR
    most = math.floor((min(MOST_FRAMES, total) if most is None else most) / FACTOR) * FACTOR
    count = min(min(max(total / fps * rate, least), most), total)
    return max(math.floor(count / FACTOR), 1) * FACTOR


def smart_resize(height: int, width: int, factor: int, least_pixels: float, most_pixels: float) -> tuple[int, int]:
    """Height and width as multiples of `factor` with an area within the bounds and nearly the same aspect.

    ValueError for a side 200 times the other.
    """
    if max(height, width) / min(height, width) > MOST_RATIO:
        raise ValueError(f"a frame of {height} x {width} pixels: the longer side may be {MOST_RATIO} times the shorter at most")
    rows, columns = (max(factor, round(side / factor) * factor) for side in (height, width))
    if rows * columns > most_pixels:
        shrink = math.sqrt(height * width / most_pixels)
        return math.floor(height / shrink / factor) * factor, math.floor(width / shrink / factor) * factor
    if rows * columns < least_pixels:
        grow = math.sqrt(least_pixels / (height * width))
        return math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return rows, columns


def frame_size(height: int, width: int, n: int, *, patch: int = 14, context: int = CONTEXT) -> tuple[int, int]:
    """The size that n frames of a film are brought to: between 128 and 768 tokens each, all within nine tenths of the context.

    patch: 14 for Qwen2-VL and Qwen2.5-VL, 16 for Qwen3-VL. A token is (2 patch)^2 pixels of a pair of frames.
    """
    area = (patch * FACTOR) ** 2
    least = LEAST_TOKENS * area
    most = max(min(MOST_TOKENS * area, context * area * 0.9 / n * FACTOR), int(least * 1.05))
    return smart_resize(height, width, patch * FACTOR, least, most)


def _rounded(n: int) -> int:
    """To an even number, halves to even as Python does; at least a pair."""
    return max(round(n / FACTOR), 1) * FACTOR


def _window(info: Timed, start: float | None, end: float | None) -> Window:
    if min(start or 0.0, end if end is not None else 0.0) < 0:
        raise ValueError(f"times are seconds from the first frame, got {start} to {end}")
    last = info.n_frames - 1
    if start is None and end is None:
        return Window(0, last)
    seconds = info.n_frames / info.fps if info.fps > 0 else info.duration
    begin, finish = min(start or 0.0, seconds), seconds if end is None else min(end, seconds)
    if info.variable_rate:
        found = Window(*(int(place) for place in (np.searchsorted(info.times, begin), np.searchsorted(info.times, finish, "right") - 1)))
    else:
        found = Window(math.ceil(begin * info.fps), last if end is None else min(math.floor(finish * info.fps), last))
    if found.first > found.last:
        raise ValueError(f"no frame lies between {start} and {end} seconds; the film has {last + 1} frames in {seconds:.2f} seconds")
    return found


def _rounded_places(window: Window, count: int) -> np.ndarray:
    """By torch itself: its float32 steps depend on the processor's vector width, and halves fall as they fall there."""
    import torch

    return np.unique(torch.linspace(window.first, window.last, count).round().long().numpy())
