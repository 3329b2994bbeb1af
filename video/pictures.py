"""A video as a model is shown it: frames placed by a rule of time, as pictures, each with its time."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    from .clip import VideoInfo

KEPT = 2  # films whose pictures stay in memory: a batch and its length are asked for one after another, questions about one film too


class Shown(NamedTuple):
    """A video's frames as pictures, when each is shown, and the video's length, in seconds."""

    pictures: tuple[PIL.Image.Image, ...]
    times: list[float]
    duration: float


class ToShow(NamedTuple):
    """The same before a frame is decoded."""

    times: list[float]
    duration: float


def to_show(path: str, sampler: str = "uniform", n: int | None = None, options: Mapping[str, Any] | None = None) -> ToShow:
    """When the frames of `shown` will be shown, from the packets alone. Arguments and errors as there."""
    info, places = _placed(path, sampler, n, options or {})
    return ToShow(info.times[places].tolist(), info.duration)


def shown(path: str, sampler: str = "uniform", n: int | None = None, options: Mapping[str, Any] | None = None) -> Shown:
    """The frames that a rule of `video.frames.SAMPLERS` places. ValueError for what is no video and no rule, OSError for no file.

    Known by path, time and size of the file: another file of the same name is another film. Asked again, the pictures are the same objects.
    """
    status = Path(path).stat()
    return _shown(path, status.st_mtime_ns, status.st_size, sampler, n, json.dumps(dict(options or {}), sort_keys=True))


@functools.lru_cache(maxsize=KEPT)
def _shown(path: str, changed: int, size: int, sampler: str, n: int | None, options: str) -> Shown:
    import PIL.Image

    from .decode import decode

    clip = decode(path, indices=_placed(path, sampler, n, json.loads(options))[1].tolist())
    pictures = tuple(PIL.Image.fromarray(frame) for frame in clip.frames.permute(0, 2, 3, 1).cpu().numpy())
    return Shown(pictures, clip.times.tolist(), clip.source.duration)


def _placed(path: str, sampler: str, n: int | None, options: Mapping[str, Any]) -> tuple[VideoInfo, np.ndarray]:
    """The video, and which of its frames are shown."""
    from .decode import probe
    from .frames import sample

    info = probe(path)
    return info, sample(info, sampler, n, **options)
