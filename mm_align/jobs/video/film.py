"""What the video verbs share: a film that is opened for a user, the stretch of it that is asked for, and rules that place frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pydantic

from ...config import JobConfig, UserError

if TYPE_CHECKING:
    import numpy as np

    from video.clip import VideoInfo


class FilmConfig(JobConfig):
    """Which film, and which stretch of it."""

    video: str | None = pydantic.Field(None, description="video file", json_schema_extra={"positional": True})
    start: float = pydantic.Field(0.0, ge=0, description="seconds from which frames are taken")
    end: float | None = pydantic.Field(None, gt=0, description="seconds up to which frames are taken (default: the film's end)")
    network: bool = pydantic.Field(False, description="the video may be an address (http://, s3://): fetch it")


class Stretch(NamedTuple):
    """A part of a film: `info` of the whole, `part` as if it began at 0, whose frame 0 is frame `first` of the whole."""

    info: VideoInfo
    part: VideoInfo
    first: int

    def places(self, sampler: str, n: int) -> np.ndarray:
        """Frames of the whole film, int64 [n], by a rule of video.frames.SAMPLERS. ValueError where the rule gives another number."""
        from video.frames import sample

        found = sample(self.part, sampler, n)
        if len(found) != n:
            raise ValueError(f"the rule {sampler!r} gives {len(found)} frames where {n} are planned; take another --sampler")
        return found + self.first


@contextmanager
def told_plainly(video: str | None) -> Iterator[None]:
    """What a video, a plan or a rule refuses, as a UserError."""
    try:
        yield
    except ValueError as error:
        told = str(error).replace("network=True", "--network")
        raise UserError(told if video is None or video in told else f"{video}: {told}") from error


def stretch_of(config: FilmConfig) -> Stretch:
    """The film and its stretch. Raises UserError for what is no video, and for a stretch outside of it."""
    from video.decode import probe

    assert config.video is not None
    with told_plainly(config.video):
        info = probe(config.video, network=config.network)
    return cut(info, config.start, config.end)


def cut(info: VideoInfo, start: float = 0.0, end: float | None = None) -> Stretch:
    """The frames shown from `start` up to `end` seconds. Raises UserError where there are none."""
    from dataclasses import replace

    import numpy as np

    last = max(info.duration, float(info.times[-1]))
    until = last if end is None else min(end, last)
    if start > last or until <= start < last:
        raise UserError(f"{info.path}: no frames from {start:g} to {until if end is None else end:g} s; the film lasts {last:.2f} s")
    first = int(info.index_at([start])[0])
    behind = len(info.times) if end is None else int(np.searchsorted(info.times, until, side="left"))
    begin = float(info.times[first])
    times = info.times[first : max(behind, first + 1)] - begin
    keys = info.key_times[(info.key_times >= begin) & (info.key_times < begin + float(times[-1]) + 1e-9)] - begin
    return Stretch(info, replace(info, times=times, key_times=keys, duration=max(until - begin, 0.0)), first)
