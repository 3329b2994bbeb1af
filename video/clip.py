"""The nouns of video: what a file holds, the frames taken from it, and the plan that says which and at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class VideoInfo:
    """What a video file holds, read from its packets; the header is not believed.

    width, height: of the picture as it is shown, after `rotation` (degrees clockwise: 0, 90, 180 or 270). times: float64 [N], strictly
    rising, the presentation time of every visible frame in seconds from the first one. key_times: float64 [K], the times of the frames
    at which decoding can begin. start: the first visible frame's time on the container's clock, seconds. duration: from the first frame's
    appearance to the last one's end, seconds. fps: n_frames / duration, 0 where a file does not tell how long it is. codec, container:
    FFmpeg's names. flags: what is unusual, see FLAGS.

    Raises ValueError when the parts do not fit together.
    """

    path: str
    width: int
    height: int
    rotation: int
    duration: float
    times: np.ndarray
    key_times: np.ndarray
    variable_rate: bool
    codec: str
    container: str
    start: float = 0.0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("times", "key_times"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.times.ndim != 1 or not len(self.times):
            raise ValueError(f"times are [N] with at least one frame, got shape {self.times.shape}")
        if not np.all(np.diff(self.times) > 0):
            raise ValueError("times must rise strictly, got " + _short(self.times))
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"a rotation is 0, 90, 180 or 270 degrees, got {self.rotation}")
        if unknown := set(self.flags) - set(FLAGS):
            raise ValueError(f"unknown flags {sorted(unknown)}: {', '.join(FLAGS)}")

    @property
    def n_frames(self) -> int:
        """Visible frames."""
        return len(self.times)

    @property
    def fps(self) -> float:
        """Mean frames a second; never use it to turn an index into a time."""
        return self.n_frames / self.duration if self.duration > 0 else 0.0

    def index_at(self, times: Any) -> np.ndarray:
        """The frame shown at each time: int64, the last one whose time is not later; before the first frame 0, after the end the last."""
        wanted = np.asarray(times, dtype=np.float64)
        return np.clip(np.searchsorted(self.times, wanted + TICK, side="right") - 1, 0, self.n_frames - 1).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> VideoInfo:
        """The inverse of `to_dict`."""
        return cls(**{**row, "flags": tuple(row["flags"])})

    def __repr__(self) -> str:
        return (
            f"VideoInfo({Path(self.path).name}, {self.width}x{self.height}, {self.n_frames} frames, {self.duration:.3f} s, "
            f"{self.fps:.3f} fps{' variable' if self.variable_rate else ''}, {self.codec} in {self.container}, flags={list(self.flags)})"
        )


# Half a tick of the finest clock in use (MPEG-TS, 90 kHz): a time that was rounded on its way is still its frame's.
TICK = 0.5 / 90_000

FLAGS = {
    "counted": "packets do not tell when their frames are shown; frames were counted by decoding all of them",
    "damaged": "something could not be decoded, or not whole",
    "edit_list": "the file hides frames at its beginning: a cut without encoding again",
    "header_lies": "the header tells of more seconds than there are packets for",
    "headless": "the file begins with frames that need others from before its beginning; they are left out",
    "hidden_frames": "some packets give no frame of their own, others refer to them",
    "late_start": "something else in the file begins before the picture; times count from the picture",
    "open_gop": "frames stand behind a keyframe that is shown after them",
    "substituted": "for a frame that cannot be decoded the nearest one was given, an earlier one where there is one",
    "truncated": "the file breaks off: frames or bytes that its header counts are not there",
}


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class VideoClip:
    """Decoded frames of one video.

    frames: uint8 [T, C, H, W]. times: float64 [T], presentation time in seconds from the first visible frame. indices: int64 [T], places
    in `source.times`. source: the file they are from. flags: what happened while decoding, of FLAGS.

    Raises ValueError when the parts do not fit together.
    """

    frames: torch.Tensor
    times: np.ndarray
    indices: np.ndarray
    source: VideoInfo
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", np.asarray(self.times, dtype=np.float64))
        object.__setattr__(self, "indices", np.asarray(self.indices, dtype=np.int64))
        if self.frames.ndim != 4 or str(self.frames.dtype) != "torch.uint8":
            raise ValueError(f"frames are uint8 [T, C, H, W], got {self.frames.dtype} {list(self.frames.shape)}")
        count = self.frames.shape[0]
        if self.times.shape != (count,) or self.indices.shape != (count,):
            raise ValueError(f"{count} frames need times [{count}] and indices [{count}], got {self.times.shape} and {self.indices.shape}")
        if count and (self.indices.min() < 0 or self.indices.max() >= self.source.n_frames):
            raise ValueError(f"indices are within 0 and {self.source.n_frames - 1}, got {_short(self.indices)}")

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    def __repr__(self) -> str:
        return (
            f"VideoClip(frames={list(self.frames.shape)} uint8, times=[{len(self)}] {_short(self.times)}, "
            f"flags={list(self.flags)}, source={self.source!r})"
        )


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Which frames to take, how many tokens each, what that costs and why.

    times: seconds from the first visible frame. indices: the same frames by place where the video is known; they win over times.
    visual_tokens, text_tokens: all frames' together, text being what the prompt adds around them.

    Raises ValueError on negative or unordered times, or indices that are not one a time.
    """

    times: tuple[float, ...]
    tokens_a_frame: int
    visual_tokens: int
    text_tokens: int = 0
    reason: str = ""
    indices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if any(late <= early for early, late in zip(self.times, self.times[1:], strict=False)) or any(time < 0 for time in self.times):
            raise ValueError(f"a plan's times rise from 0 on, got {_short(np.asarray(self.times))}")
        if self.indices is not None and len(self.indices) != len(self.times):
            raise ValueError(f"{len(self.times)} times need as many indices, got {len(self.indices)}")

    @property
    def n_frames(self) -> int:
        """Frames planned."""
        return len(self.times)

    @property
    def total(self) -> int:
        """Positions of the language model: visual and text tokens."""
        return self.visual_tokens + self.text_tokens

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self),
            "times": list(self.times),
            "indices": None if self.indices is None else list(self.indices),
            "total": self.total,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> FramePlan:
        """The inverse of `to_dict`."""
        known = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        return cls(**{**known, "times": tuple(row["times"]), "indices": None if row.get("indices") is None else tuple(row["indices"])})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _short(values: np.ndarray) -> str:
    shown = [f"{value:.6g}" for value in values]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]])
