"""decord, because many pipelines name it: right on plain files, silently wrong on others, never chosen by itself."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..clip import VideoInfo
from .base import Decoded, Reader
from .source import VideoError, handle_of

if TYPE_CHECKING:
    import torch


class DecordReader(Reader):
    """`decord.VideoReader.get_batch`. A reader is made for each call: one that is kept alive goes on decoding into memory without end."""

    name = "decord"

    @staticmethod
    @cache
    def missing() -> str:
        if importlib.util.find_spec("decord") is None:
            return "decord is not installed; it has wheels for x86-64 Linux and Windows only"
        try:
            import decord  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            return f"decord does not load: {error}"
        return ""

    @staticmethod
    def unfit(info: VideoInfo) -> str:
        told = [why for flag, why in UNFIT_FLAGS.items() if flag in info.flags]
        return told[0] if told else UNFIT_CONTAINERS.get(info.container, "") or UNFIT_CODECS.get(info.codec, "")

    def read(self, indices: np.ndarray, size: tuple[int, int]) -> Decoded:
        import decord
        import torch

        source = handle_of(self.truth.opened.source, network=True)  # a handle of its own; whether addresses are read was asked before
        try:
            reader = decord.VideoReader(source, ctx=decord.cpu(0), num_threads=self.threads)
            if len(indices) and indices[-1] >= len(reader):
                raise VideoError(f"{self.info.path}: decord counts {len(reader)} frames, the packets {self.info.n_frames}")
            frames = torch.from_numpy(reader.get_batch(indices.tolist()).asnumpy())  # [T, H, W, C]
        except (decord.DECORDError, RuntimeError, StopIteration) as error:
            raise VideoError(f"{self.info.path}: decord cannot read it ({_last_line(error)})") from error
        return Decoded(frames if frames.shape[1:3] == size else _scaled(frames, size))


def _scaled(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """decord scales to widths of whole cache lines only, and fails on others, so this is done behind it."""
    from torch.nn.functional import interpolate

    return interpolate(frames.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[-1]


# Measured on the clips of tests/video/clips.py with decord 0.6.0.
UNFIT_FLAGS = {
    "open_gop": "it gives other frames than those asked for where GOPs are open",
    "edit_list": "it counts and gives frames that an edit list hides",
    "truncated": "it reads nothing of a file that breaks off",
    "counted": "it gives other frames than those asked for where packets tell no times",
    "headless": "it gives other frames than those asked for where a file begins with frames that cannot be decoded",
    "hidden_frames": "it fails on packets that give no frame",
}
UNFIT_CONTAINERS = {
    "mpegts": "it gives other frames than those asked for in transport streams",
    "mpeg": "it gives other frames than those asked for in program streams",
    "avi": "it gives other frames than those asked for in AVI",
    "gif": "it cannot read GIF",
    "asf": "it gives other frames than those asked for in Windows Media",
}
UNFIT_CODECS = {"av1": "it cannot read AV1"}
