"""torchcodec in its exact mode, as a second opinion and where a user wants it; its frame times are checked against ours."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from ..clip import VideoInfo
from .base import Decoded, Reader
from .source import VideoError

TOLERANCE = 1e-3  # seconds between its times and ours: clocks of milliseconds round


class TorchcodecReader(Reader):
    """`torchcodec.decoders.VideoDecoder(seek_mode="exact")`. Its approximate mode is wrong on variable rates and is not offered."""

    name = "torchcodec"

    @staticmethod
    @cache
    def missing() -> str:
        if importlib.util.find_spec("torchcodec") is None:
            return "torchcodec is not installed (pip install 'mm-align[torchcodec]')"
        try:
            import torchcodec.decoders
        except (ImportError, OSError, RuntimeError) as error:
            return f"torchcodec does not load, most often for want of FFmpeg's shared libraries: {str(error).strip().splitlines()[0]}"
        if getattr(torchcodec, "ffmpeg_major_version", "") is None:  # from 0.17 on it loads without them, for pictures
            return "torchcodec finds no shared libraries of FFmpeg, 4 to 9"
        return ""

    @staticmethod
    def unfit(info: VideoInfo) -> str:
        told = [why for flag, why in UNFIT_FLAGS.items() if flag in info.flags]
        return told[0] if told else UNFIT_CONTAINERS.get(info.container, "")

    def read(self, indices: np.ndarray, size: tuple[int, int]) -> Decoded:
        try:
            batch = self._decoder(size).get_frames_at(indices=indices.tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoError(f"{self.info.path}: torchcodec cannot read it ({str(error).strip().splitlines()[0]})") from error
        told, right = batch.pts_seconds.numpy(), self.info.times[indices] + self.info.start
        if len(told) != len(right) or np.abs(told - right).max(initial=0.0) > TOLERANCE:
            raise VideoError(f"{self.info.path}: torchcodec's frames are not of the times that the packets tell")
        return Decoded(batch.data)

    def _decoder(self, size: tuple[int, int]) -> Any:
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize

        opened = self.truth.opened
        source = opened.source if isinstance(opened.source, bytes) else opened.handle
        same = size == (self.info.height, self.info.width)
        decoder = VideoDecoder(
            source, dimension_order="NHWC", num_ffmpeg_threads=self.threads, seek_mode="exact", transforms=None if same else [Resize(size)]
        )
        if decoder.metadata.num_frames != self.info.n_frames:
            raise VideoError(f"{self.info.path}: torchcodec counts {decoder.metadata.num_frames} frames, the packets {self.info.n_frames}")
        return decoder


# Measured on the clips of tests/video/clips.py with torchcodec 0.17.0 and FFmpeg 5.1.
UNFIT_FLAGS = {
    "truncated": "it fails, or counts half a picture, where a file breaks off",
    "counted": "it cannot tell frames apart where packets tell no times",
    "headless": "it counts frames that cannot be decoded",
    "hidden_frames": "it counts frames that are not shown",
}
UNFIT_CONTAINERS = {
    "mpegts": "it loses frames of transport streams",
    "mpeg": "it loses frames of program streams",
    "avi": "it loses frames of AVI",
}
