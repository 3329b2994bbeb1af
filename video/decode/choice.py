"""One face over the backends: probe, decode, keep open; `auto` takes what is right for the file at hand and says why."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from ..clip import FramePlan, VideoClip, VideoInfo
from .base import Decoded, Reader, Size
from .pyav import PyavReader
from .source import Source, VideoError

log = logging.getLogger(__name__)

# What `auto` tries, in this order: ours is right on every clip of the tests and the fastest (docs/performance.md). decord never is in it.
AUTO = ("pyav", "torchcodec")


def probe(source: Source, *, network: bool = False) -> VideoInfo:
    """What a video holds, from its packets. Raises VideoError where that cannot be told."""
    with PyavReader(source, network=network) as reader:
        return reader.info


def decode(
    source: Source,
    plan: FramePlan | None = None,
    *,
    times: Sequence[float] | None = None,
    indices: Sequence[int] | None = None,
    backend: str = "auto",
    size: Size = None,
    threads: int = 1,
    network: bool = False,
) -> VideoClip:
    """Frames of a plan, at times or at indices, of the whole video where none is given; see `Reader.clip`.

    source: a path or a file's bytes; an address only with `network`. backend: "auto" or one of DECODERS. size: (height, width), or the
    length of the shorter side. threads: of the decoder, 0 for one a core. Raises VideoError with what is wrong and what to do.
    """
    with open_video(source, backend, threads=threads, network=network) as video:
        return video.clip(plan, times=times, indices=indices, size=size)


def open_video(source: Source, backend: str = "auto", *, threads: int = 1, network: bool = False) -> Reader:
    """The video for repeated reading, scanned once: a context manager. Arguments and errors as those of `decode`."""
    from . import DECODERS  # the table imports this module

    if backend != "auto" and backend not in DECODERS:
        raise VideoError(f"unknown backend '{backend}': auto, {', '.join(DECODERS)}")
    if backend != "auto" and (why := DECODERS[backend].missing()):
        raise VideoError(f"{backend} cannot be used here: {why}")
    truth = PyavReader(source, network=network, threads=threads)
    if backend == "auto":
        return AutoReader(truth, threads)
    if why := DECODERS[backend].unfit(truth.info):
        warnings.warn(f"{truth.info.path}: {backend} was asked for, but {why}; 'auto' reads such files right", stacklevel=2)
    return truth if backend == "pyav" else DECODERS[backend](truth, threads)


class AutoReader(Reader):
    """Reads with the first backend of AUTO that is there and right for the file; where it fails, with the next, and logs the reason."""

    name = "auto"

    def __init__(self, truth: PyavReader, threads: int = 1) -> None:
        super().__init__(truth, threads)
        self._readers = list(self._candidates())
        log.debug("%s: decoded by %s", self.info.path, self._readers[0].name)

    @staticmethod
    def missing() -> str:
        return ""

    @staticmethod
    def unfit(info: VideoInfo) -> str:
        return ""

    def read(self, indices: np.ndarray, size: tuple[int, int]) -> Decoded:
        while True:
            try:
                return self._readers[0].read(indices, size)
            except VideoError as error:
                if len(self._readers) == 1:
                    raise
                failed = self._readers.pop(0)
                log.warning("%s: %s failed (%s); decoded by %s from here on", self.info.path, failed.name, error, self._readers[0].name)

    def _candidates(self) -> Iterator[Reader]:
        from . import DECODERS

        for name in AUTO:
            kind = DECODERS[name]
            if why := kind.missing() or kind.unfit(self.info):
                log.debug("%s: not by %s: %s", self.info.path, name, why)
            else:
                yield self.truth if kind is PyavReader else kind(self.truth, self.threads)
