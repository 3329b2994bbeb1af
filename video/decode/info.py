"""From packets and one decoded frame to `VideoInfo`: times, rotation, what is unusual about a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..clip import VideoInfo
from .peek import matroska_breaks_off
from .scan import Packets
from .source import Opened, VideoError
from .walk import Walker

# A header that differs from the packets by more than this is wrong: seconds, and part of the length.
SLACK = (0.5, 0.02)


def describe(opened: Opened, walker: Walker) -> VideoInfo:
    """What the file holds. Frames at its beginning that cannot be decoded are hidden from `walker.packets`.

    Raises VideoError where no frame can be decoded.
    """
    packets = walker.packets
    _hide_orphans(walker)
    picture = _first(opened, walker)
    times, turn = packets.times, -round(picture.rotation / 90) * 90 % 360
    height, width = (picture.width, picture.height) if turn % 180 else (picture.height, picture.width)
    start = float(packets.pts[packets.order[0]] * packets.tick)
    last = packets.last or (float(np.median(np.diff(times))) if len(times) > 1 else 1 / float(opened.stream.average_rate or 1))
    duration = float(times[-1]) + last
    return VideoInfo(
        path=opened.name, width=width, height=height, rotation=turn, duration=duration, times=times,
        key_times=_key_times(packets), variable_rate=_varies(times), codec=opened.stream.codec_context.codec.canonical_name,
        container=opened.container.format.name, start=start,
        flags=tuple(sorted(packets.flags | walker.flags | _header_flags(opened, packets, duration) | _order_flags(opened, packets))),
    )  # fmt: skip


def _first(opened: Opened, walker: Walker) -> Any:
    """The first frame that can be decoded."""
    for place in walker.packets.order[:100]:
        for seen in walker.walk([int(place)]):
            return seen.frame
    raise VideoError(f"{opened.name}: none of its first frames can be decoded (codec {opened.stream.codec_context.name})")


def _hide_orphans(walker: Walker) -> None:
    """A cut inside open GOPs leaves frames that stand behind the first keyframe, are shown before it and need what was cut off."""
    packets = walker.packets
    if packets.counted or not len(packets.keys):
        return
    first = packets.keys[0]
    leading = [int(place) for place in packets.order if place > first and packets.pts[place] < packets.pts[first]]
    if leading:
        met = set(walker.flags)
        sound = {seen.place for seen in walker.walk(leading) if not seen.flag}
        if orphans := [place for place in leading if place not in sound]:
            packets.hide(orphans, "headless")
        walker.flags.intersection_update(met)  # that they cannot be decoded is no damage


def _key_times(packets: Packets) -> np.ndarray:
    """Times of keyframes that are shown."""
    pts = packets.pts
    shown = pts[packets.keys[packets.shown[packets.keys]]]
    return np.sort(shown - pts[packets.order[0]]) * packets.tick


def _varies(times: np.ndarray) -> bool:
    """Whether gaps differ by more than the rounding of a clock of milliseconds."""
    gaps = np.diff(times)
    return len(gaps) > 1 and float(np.abs(gaps - np.median(gaps)).max()) > max(0.0021, 0.1 * float(np.median(gaps)))


def _order_flags(opened: Opened, packets: Packets) -> set[str]:
    """`open_gop`: a frame stands behind a keyframe that is shown after it. `late_start`: something else begins first."""
    flags = set()
    if not packets.counted:
        latest_key = np.maximum.accumulate(np.where(packets.key, packets.pts, packets.pts.min()))
        if np.any(packets.pts[packets.shown] < latest_key[packets.shown]):
            flags.add("open_gop")
        began = opened.container.start_time
        if began is not None and packets.pts[packets.order[0]] * packets.tick - began / 1e6 > 0.1:
            flags.add("late_start")
    return flags


def _header_flags(opened: Opened, packets: Packets, duration: float) -> set[str]:
    """`truncated` where frames or bytes that the header counts are not there, `header_lies` where only its length is wrong."""
    container, stream = opened.container, opened.stream
    if (not packets.counted and stream.frames > len(packets.pts)) or matroska_breaks_off(opened.handle, container.size):
        return {"truncated"}
    told = stream.duration * packets.tick if stream.duration and stream.time_base else 0.0
    if not told and len(container.streams) == 1:
        told = (container.duration or 0) / 1e6
    return {"header_lies"} if told - duration > max(SLACK[0], SLACK[1] * duration) else set()
