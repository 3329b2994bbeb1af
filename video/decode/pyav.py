"""Our own reader, on PyAV: it scans packets, seeks by their times, leaves out what nobody needs, and says what it could not decode."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..clip import VideoInfo
from .base import Decoded, Reader
from .info import describe
from .scan import scan
from .source import Opened, Source, VideoError
from .walk import Walker


class PyavReader(Reader):
    """Exact on every file that FFmpeg can open; the other readers have their `info` from it.

    Raises VideoError for what cannot be opened or holds no frame.
    """

    name = "pyav"

    def __init__(self, source: Source, *, network: bool = False, threads: int = 1) -> None:
        self.opened = Opened(source, network, threads)
        try:
            self.walker = Walker(self.opened, scan(self.opened))
            self.info = describe(self.opened, self.walker)
        except BaseException:
            self.opened.close()
            raise
        super().__init__(self, threads)

    @staticmethod
    def missing() -> str:
        return ""

    @staticmethod
    def unfit(info: VideoInfo) -> str:
        return ""

    def read(self, indices: np.ndarray, size: tuple[int, int]) -> Decoded:
        import torch

        places = self.walker.packets.order[indices]
        slots = {int(place): at for at, place in enumerate(places)}
        frames = torch.empty(len(indices), *size, 3, dtype=torch.uint8)  # [T, H, W, C]; numpy's huge pages took up to 3 x as long to touch
        pictures = frames.numpy()
        flags = set[str]()
        self.walker.flags.clear()
        painter = Painter(size, self.info.rotation)
        for seen in self.walker.walk(slots):
            painter.paint(seen.frame, pictures[slots.pop(seen.place)])
            flags |= {seen.flag} - {""}
        if slots:
            lost = sorted(indices[list(slots.values())].tolist())
            raise VideoError(f"{self.info.path}: frame {lost[0]} and {len(lost) - 1} more cannot be decoded, nor anything near them")
        return Decoded(frames, frozenset(flags | self.walker.flags))

    def close(self) -> None:
        self.opened.close()


class Painter:
    """Turns decoded frames into RGB pictures of one size: one conversion, scaling included, and one copy."""

    def __init__(self, size: tuple[int, int], rotation: int) -> None:
        from av.video.reformatter import VideoReformatter

        self.turns = rotation // 90
        self.height, self.width = size[::-1] if self.turns % 2 else size
        self.reformatter = VideoReformatter()

    def paint(self, frame: Any, out: np.ndarray) -> None:
        """Writes a frame into `out`, uint8 [H, W, 3]."""
        same = (frame.width, frame.height) == (self.width, self.height)
        rgb = self.reformatter.reformat(frame, self.width, self.height, "rgb24", interpolation="BILINEAR" if same else "BICUBIC", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(self.height, plane.line_size)[:, : self.width * 3]
        out[:] = np.rot90(rows.reshape(self.height, self.width, 3), -self.turns)
