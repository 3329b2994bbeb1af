"""What a user may name as a video, opened: a path or bytes; a network path only when asked for."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import av
import av.container
import av.stream

from .peek import what_is_missing

Source: TypeAlias = str | os.PathLike[str] | bytes

# What a file may refer to on its own (a playlist its parts); without the list FFmpeg would follow links into the network.
LOCAL = "file,crypto,data"
REMOTE = "http,https,tcp,tls,crypto,data"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class VideoError(ValueError):
    """A video that cannot be opened or read; the message says what was found and what to do."""


class Opened:
    """A container and its video stream, with what is needed to open it again or to close it.

    threads: of the decoder, 0 for as many as there are cores. Raises VideoError for what is no video, for a file without one,
    and for an address that was not asked for.
    """

    def __init__(self, source: Source, network: bool = False, threads: int = 1) -> None:
        self.source, self.name, self.threads = source, name_of(source), threads
        self.handle = handle_of(source, network)
        self.container, self.stream = self._open()

    def _open(self) -> tuple[Any, Any]:
        try:
            remote = isinstance(self.handle, str) and ADDRESS.match(self.handle)
            container = av.open(self.handle, options={"protocol_whitelist": REMOTE if remote else LOCAL})
        except (av.FFmpegError, ValueError) as error:
            why = what_is_missing(self.handle)
            self._release()
            raise VideoError(f"{self.name}: no video that can be opened ({why or _told(error)})") from error
        try:
            stream = _video_stream(container, self.name)
        except VideoError:
            container.close()
            self._release()
            raise
        stream.thread_count = self.threads
        stream.thread_type = "SLICE" if self.threads == 1 else "AUTO"
        return container, stream

    def reopen(self) -> None:
        """Begin anew at the first packet."""
        self.container.close()
        if not isinstance(self.handle, str):
            self.handle.seek(0)
        self.container, self.stream = self._open()

    def close(self) -> None:
        """Give the file back; nothing can be read afterwards."""
        self.container.close()
        self._release()

    def _release(self) -> None:
        if not isinstance(self.handle, str):
            self.handle.close()


def name_of(source: Source) -> str:
    """How a source is called in messages and in `VideoInfo.path`."""
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)


def handle_of(source: Source, network: bool = False) -> str | BinaryIO:
    """What libraries open: an absolute path, an address of the web, or a file object for bytes and for other addresses.

    Raises VideoError for an address unless `network` is true, for a path that is no file, and for an empty file.
    """
    if isinstance(source, bytes):
        if not source:
            raise VideoError(f"{name_of(source)}: empty")
        return io.BytesIO(source)
    name = os.fspath(source)
    if ADDRESS.match(name) and not name.startswith("file://"):
        return _remote(name, network)
    path = Path(name.removeprefix("file://")).expanduser().absolute()
    if not path.is_file():
        raise VideoError(f"{name}: {'a folder; a video is a file' if path.is_dir() else 'no such file'}")
    if not path.stat().st_size:
        raise VideoError(f"{name}: an empty file")
    return str(path)


def _remote(name: str, network: bool) -> str | BinaryIO:
    if not network:
        raise VideoError(f"{name}: a network path is read only when it is asked for: network=True")
    if name.startswith(("http://", "https://")):
        return name
    import fsspec

    try:
        return cast(BinaryIO, fsspec.open(name, "rb").open())
    except (OSError, ValueError, ImportError) as error:
        raise VideoError(f"{name}: cannot be opened ({error})") from error


def _video_stream(container: Any, name: str) -> Any:
    """The first video stream that is no cover picture."""
    if container.format.name == "tty":
        raise VideoError(f"{name}: text, which FFmpeg would show as a terminal does, and no video")
    pictures = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
    if pictures and pictures[0].codec_context is None:
        raise VideoError(f"{name}: video in a codec that this FFmpeg does not know")
    if pictures:
        return pictures[0]
    others = " and ".join(sorted({stream.type for stream in container.streams}))
    raise VideoError(f"{name}: no video in it, only {others or 'an empty container'}")


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
