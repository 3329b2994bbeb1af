"""The table of decoders: name -> how frames are read."""

from .base import Reader
from .choice import decode, open_video, probe
from .decord_ import DecordReader
from .pyav import PyavReader
from .source import VideoError
from .torchcodec_ import TorchcodecReader

DECODERS: dict[str, type[Reader]] = {
    "pyav": PyavReader,
    "torchcodec": TorchcodecReader,
    "decord": DecordReader,
}

__all__ = ["DECODERS", "Reader", "VideoError", "decode", "open_video", "probe"]
