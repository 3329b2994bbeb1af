"""Every packet of a video stream, read once without decoding: which frames there are, when each is shown, where decoding can begin."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from .peek import ends_within_packet
from .source import Opened, VideoError

PATIENCE = 100  # so many errors in a row, and the rest of the file is given up
NONE = -(2**62)  # a time that a packet does not tell


@dataclass(eq=False)
class Packets:
    """The packets of a stream in the file's order, P of them.

    pts, dts: int64 [P] in the stream's clock, NONE where not told. key: bool [P], decoding can begin here. shown: bool [P], the packet
    gives a frame that is shown; those hidden by an edit list, frames that are only referred to, and what cannot be decoded at the
    file's beginning give none. tick: seconds of the clock. last: seconds for which the last frame is shown, 0 where the file does not
    tell. counted: True where times do not tell frames apart (raw streams, H.264 in AVI): then frames were counted by decoding, and
    P is their number, in the order they are shown. flags: of `video.clip.FLAGS`.
    """

    pts: np.ndarray
    dts: np.ndarray
    key: np.ndarray
    shown: np.ndarray
    tick: float
    last: float = 0.0
    counted: bool = False
    flags: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        shown = np.flatnonzero(self.shown)
        self.order = shown[np.argsort(self.pts[shown], kind="stable")]  # [N] shown packets by the time they are shown
        self.keys = np.flatnonzero(self.key)
        self._by_pts = np.argsort(self.pts, kind="stable")
        self._sorted = self.pts[self._by_pts]

    @property
    def times(self) -> np.ndarray:
        """float64 [N], seconds from the first shown frame."""
        pts = self.pts[self.order]
        seconds: np.ndarray = (pts - pts[0]) * self.tick
        return seconds

    def place(self, pts: int | None) -> int | None:
        """Where the packet with this time stands, None where there is none."""
        if pts is None:
            return None
        at = int(np.searchsorted(self._sorted, pts))
        return int(self._by_pts[at]) if at < len(self._sorted) and self._sorted[at] == pts else None

    def begin(self, place: int, earlier: int = 0) -> int:
        """Where decoding begins for the packet at `place`: the last keyframe before it in the file that is not shown after it.

        Frames of an open GOP stand behind a keyframe that is shown later than they are, and need the one before. `earlier` goes
        so many keyframes further back.
        """
        at = int(np.searchsorted(self.keys, place, side="right")) - 1
        while at > 0 and self.pts[self.keys[at]] > self.pts[place]:
            at -= 1
        return int(self.keys[max(0, at - earlier)]) if at >= 0 else 0

    def hide(self, places: Any, flag: str) -> None:
        """These packets give no frame after all, for the reason of the flag."""
        self.shown[places] = False
        self.flags.add(flag)
        self.__post_init__()


def scan(opened: Opened) -> Packets:
    """All packets of the stream, to its end. Raises VideoError where there is none."""
    packets = _demuxed(opened)
    if _times_fail(packets, opened):
        return _counted(opened)
    if len(packets.keys) and packets.keys[0]:
        packets.hide(slice(0, packets.keys[0]), "headless")
    if not len(packets.order):
        raise VideoError(f"{opened.name}: {len(packets.pts)} packets of video, and none of them gives a frame")
    return packets


def packets_of(opened: Opened, flags: set[str]) -> Iterator[Any]:
    """Packets from where the container stands to the end; errors between them are passed over and flagged `damaged`."""
    failures = 0
    while failures < PATIENCE:
        try:
            for packet in opened.container.demux(opened.stream):
                if packet.size:
                    failures = 0
                    yield packet
            return
        except av.FFmpegError:
            flags.add("damaged")
            failures += 1


def _demuxed(opened: Opened) -> Packets:
    stream, flags, last, corrupt = opened.stream, set[str](), (NONE, 0), False
    pts, dts, key, shown = array("q"), array("q"), array("b"), array("b")
    reveals = REVEALS.get(stream.codec_context.name, _always)
    for packet in packets_of(opened, flags):
        time = NONE if packet.pts is None else packet.pts
        pts.append(time)
        dts.append(NONE if packet.dts is None else packet.dts)
        key.append(packet.is_keyframe)
        shown.append(not packet.is_discard and reveals(packet))
        if not shown[-1]:
            flags.add("edit_list" if packet.is_discard else "hidden_frames")
        last, corrupt = max(last, (time, packet.duration or 0)), packet.is_corrupt
    if not pts:
        raise VideoError(f"{opened.name}: the header tells of video, but not one frame is there")
    if corrupt or ends_within_packet(opened.container.format.name, opened.container.size):  # half a picture
        flags.add("truncated")
        shown[-1] = False
    tick = float(stream.time_base) if stream.time_base else 1.0
    return Packets(
        np.array(pts, np.int64), np.array(dts, np.int64), np.array(key, bool), np.array(shown, bool), tick, last[1] * tick, flags=flags
    )


def _times_fail(packets: Packets, opened: Opened) -> bool:
    """Whether packets do not say when their frame is shown, as in raw streams, AVI with B-frames of H.264, and packed MPEG-4."""
    pts = packets.pts[packets.shown]
    if len(pts) and (pts.min() == NONE or len(np.unique(pts)) < len(pts)):
        return True
    codec = opened.stream.codec_context
    if opened.container.format.name == "avi" and codec.name in ("h264", "hevc"):
        return True
    return codec.name == "mpeg4" and bool(re.search(rb"DivX\d+[b]\d+p", codec.extradata or b""))


def _counted(opened: Opened) -> Packets:
    """Frames told apart by decoding all of them once. Raises VideoError where none can be decoded."""
    flags = {"counted"}
    seen = [(frame.pts, frame.key_frame) for frame in all_frames(opened, flags)]
    if not seen:
        raise VideoError(f"{opened.name}: no frame of it can be decoded")
    pts = np.array([NONE if time is None else time for time, _ in seen], np.int64)
    stream = opened.stream
    if pts.min() > NONE and np.all(np.diff(pts) > 0):
        tick, last = float(stream.time_base), 0.0
    else:
        rate = stream.guessed_rate or stream.average_rate or 25  # a raw stream's average is the demuxer's default
        pts, tick, last = np.arange(len(seen)), 1 / float(rate), 1 / float(rate)
    return Packets(pts, pts, np.array([key for _, key in seen]), np.ones(len(seen), bool), tick, last, counted=True, flags=flags)


def all_frames(opened: Opened, flags: set[str]) -> Iterator[Any]:
    """Every frame from the beginning on, in the order they are shown, whatever their times."""
    opened.reopen()
    for packet in packets_of(opened, flags):
        yield from decoded(packet.decode, flags)
    yield from decoded(opened.stream.codec_context.decode, flags)


def decoded(step: Callable[[], list[Any]], flags: set[str]) -> list[Any]:
    """The frames of one step; a packet that cannot be decoded gives none and flags the file `damaged`."""
    try:
        return step()
    except av.FFmpegError:
        flags.add("damaged")
        return []


def _always(packet: Any) -> bool:
    return True


def _vp8_reveals(packet: Any) -> bool:
    return bool(memoryview(packet)[0] >> 4 & 1)


def _vp9_reveals(packet: Any) -> bool:
    """A superframe ends with a shown frame; else the header's `show_existing_frame` or `show_frame`."""
    data = memoryview(packet)
    if data[-1] >> 5 == 0b110:
        return True
    head = data[0] << (1 if data[0] >> 4 & 3 == 3 else 0)  # profile 3 has a reserved bit more
    return bool(head >> 3 & 1 or head >> 1 & 1)


REVEALS: dict[str, Callable[[Any], bool]] = {"vp8": _vp8_reveals, "libvpx": _vp8_reveals, "vp9": _vp9_reveals, "libvpx-vp9": _vp9_reveals}
