"""The face of a decoder: an open video that gives frames by time, by index or by plan, whole or piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np

from ..clip import TICK, FramePlan, VideoClip, VideoInfo
from .source import VideoError

if TYPE_CHECKING:
    import torch

    from .pyav import PyavReader

Size: TypeAlias = int | tuple[int, int] | None

LIMIT = 8 * 2**30  # bytes of one clip; more is asked for by mistake


class Decoded(NamedTuple):
    """Frames of one reading: uint8 [T, H, W, C], one for each index asked for, and flags of `video.clip.FLAGS`."""

    frames: torch.Tensor
    flags: frozenset[str] = frozenset()


class Reader(ABC):
    """One open video. A context manager; nothing can be read after it is closed.

    truth: the reader that scanned the file; `info` is its, whatever library decodes. threads: of the decoder, 0 for one a core.
    """

    name: ClassVar[str]

    def __init__(self, truth: PyavReader, threads: int = 1) -> None:
        self.truth, self.threads = truth, threads
        self.info: VideoInfo = truth.info

    @staticmethod
    @abstractmethod
    def missing() -> str:
        """Why this backend cannot be used here, empty where it can."""

    @staticmethod
    @abstractmethod
    def unfit(info: VideoInfo) -> str:
        """What this backend gets wrong about such a file, empty where it is right."""

    @abstractmethod
    def read(self, indices: np.ndarray, size: tuple[int, int]) -> Decoded:
        """Frames at `indices`, int64 [T], rising and unique, as pictures of `size` (height, width). VideoError where they cannot be had."""

    def clip(
        self,
        plan: FramePlan | None = None,
        *,
        times: Sequence[float] | None = None,
        indices: Sequence[int] | None = None,
        size: Size = None,
    ) -> VideoClip:
        """Frames of a plan, at times (the frame shown then) or at indices; of the whole video where none is given.

        In the order asked for, a frame asked for twice twice. size: (height, width), or the length of the shorter side, of the
        picture as shown. Raises VideoError for what is outside the video, and for more than LIMIT bytes.
        """
        wanted = wanted_indices(self.info, plan, times, indices)
        height, width = shown_size(self.info, size)
        if wanted.size * height * width * 3 > LIMIT:
            raise VideoError(
                f"{self.info.path}: {wanted.size} frames of {width}x{height} take {wanted.size * height * width * 3 / 2**30:.1f} GiB: "
                "give a plan, times, indices or a size, or read it piece by piece with open_video(...).pieces()"
            )
        unique, back = np.unique(wanted, return_inverse=True)
        decoded = self.read(unique, (height, width)) if wanted.size else _nothing(height, width)
        frames = decoded.frames if len(unique) == len(wanted) and np.all(unique == wanted) else decoded.frames[back]
        flags = tuple(sorted(decoded.flags))
        return VideoClip(frames.permute(0, 3, 1, 2), self.info.times[wanted], wanted, self.info, flags)  # [T, H, W, C] -> [T, C, H, W]

    def pieces(self, indices: Sequence[int] | None = None, *, size: Size = None, length: int = 32) -> Iterator[VideoClip]:
        """The same as clips of at most `length` frames, one in memory at a time."""
        wanted = wanted_indices(self.info, None, None, indices)
        for begin in range(0, len(wanted), length):
            yield self.clip(indices=wanted[begin : begin + length].tolist(), size=size)

    def close(self) -> None:
        """Give the file back."""
        self.truth.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _nothing(height: int, width: int) -> Decoded:
    import torch

    return Decoded(torch.empty(0, height, width, 3, dtype=torch.uint8))


def wanted_indices(info: VideoInfo, plan: FramePlan | None, times: Sequence[float] | None, indices: Sequence[int] | None) -> np.ndarray:
    """int64 [T], places in `info.times`. Raises VideoError where there is more than one wish, and for what is outside the video."""
    if sum(given is not None for given in (plan, times, indices)) > 1:
        raise VideoError("give a plan, times or indices, and only one of them")
    if plan is not None:
        times, indices = (plan.times, None) if plan.indices is None else (None, plan.indices)
    if times is not None:
        return _at_times(info, np.asarray(times, dtype=np.float64))
    if indices is None:
        return np.arange(info.n_frames)
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size and (wanted.min() < 0 or wanted.max() >= info.n_frames):
        wrong = wanted.min() if wanted.min() < 0 else wanted.max()
        raise VideoError(f"{info.path}: frame {wrong} was asked for; it has {info.n_frames}, from 0 to {info.n_frames - 1}")
    return wanted


def _at_times(info: VideoInfo, times: np.ndarray) -> np.ndarray:
    wrong = times[~((times >= 0) & (times <= info.duration + TICK))]  # not a number is wrong too
    if wrong.size:
        raise VideoError(f"{info.path}: {wrong[0]:.6g} s was asked for; it lasts from 0 to {info.duration:.6g} s")
    return info.index_at(times)


def shown_size(info: VideoInfo, size: Size) -> tuple[int, int]:
    """(height, width) of the pictures: as they are, as given, or with the shorter side as given and the shape kept."""
    if size is None:
        return info.height, info.width
    height, width = size if isinstance(size, tuple) else _shorter(info, size)
    if min(height, width) < 1:
        raise VideoError(f"a picture has at least one pixel each way, got height {height}, width {width}")
    return height, width


def _shorter(info: VideoInfo, side: int) -> tuple[int, int]:
    scale = side / min(info.height, info.width)
    return round(info.height * scale), round(info.width * scale)
